package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
)

// KnownName is an answer by DNS on a tape that may name connections still.
type KnownName struct {
	Lookup // with a Name and Answers

	Tgid      uint32 // of the process that got it; 0 unknown
	StartBoot uint64 // of that process, ns of CLOCK_BOOTTIME
	Exe       string // likewise, escaped
	NetNS     uint32 // network namespace, inode
	Last      uint64 // when it came last, ns of CLOCK_BOOTTIME
}

// foldedFor is the longest time from the first to the last answer of a row.
const foldedFor = 10 * time.Minute

// FindNames returns answers of a boot that came in the time before now, ns of CLOCK_BOOTTIME, that within says, and are good still, or
// were no more than slack ago: the newest first, and most at the most. A tape that is not there yet has none. It must not be called
// while this process has the tape open for writing.
func FindNames(ctx context.Context, dir, bootID string, now uint64, within, slack time.Duration, most int) ([]KnownName, error) {
	tape, err := OpenTapeContext(ctx, dir)
	if errors.Is(err, failure.ErrNoTape) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer tape.Close()
	var found []KnownName
	since := int64(now) - int64(within) - int64(foldedFor)
	for place := len(tape.segs) - 1; place >= 0 && len(found) < most && ctx.Err() == nil; place-- {
		boot := tape.segs[place].BootNamed(bootID)
		if boot == nil || boot.Last-boot.Offset < since {
			break
		}
		err := tape.Use(place, func(conn *sqlite.Conn) error {
			return segment.Exec(conn, func(q *sqlite.Stmt) error {
				found = append(found, KnownName{
					Lookup: Lookup{Name: q.ColumnText(0), Answers: q.ColumnText(1), TTL: q.ColumnInt64(2), Type: uint32(q.ColumnInt64(8))},
					Last:   uint64(q.ColumnInt64(3) - boot.Offset),
					Tgid:   uint32(q.ColumnInt64(4)), StartBoot: uint64(q.ColumnInt64(5)), Exe: q.ColumnText(6), NetNS: uint32(q.ColumnInt64(7)),
				})
				return nil
			}, `SELECT v.question, v.answers, v.ttl, v.last_ns, p.tgid, p.start_boot_ns, p.exe, coalesce(t.netns, v.netns), v.asked
				FROM event v LEFT JOIN task t ON t.id = v.task LEFT JOIN process p ON p.id = t.process
				WHERE v.id >= ?1 AND v.asked > 0 AND v.asked < ?2 AND v.answers <> '' AND v.ttl IS NOT NULL AND v.last_ns / 1000000000 + v.ttl >= ?3
				ORDER BY v.id DESC LIMIT ?4`,
				since+boot.Offset, int64(LookupSNI), (int64(now)-int64(slack)+boot.Offset)/int64(time.Second), int64(most-len(found)))
		})
		if err != nil && !errors.Is(err, segment.ErrGone) {
			return nil, fmt.Errorf("find names: %w", err)
		}
	}
	return found, ctx.Err()
}
