package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
)

// A connection outlives the recorder that wrote its row. The next one finds the socket open, and here the row.

// Followed is a connection on a tape whose end was not told.
type Followed struct {
	Connect uint64  // Connection.BootTime, ns of CLOCK_BOOTTIME
	Outcome Outcome // what was told of it last; without Local
}

// mostCookies bounds how many cookies one statement is asked for.
const mostCookies = 10_000

// FindFollowed looks for the connections of a boot whose sockets, told by their cookies, are open. It reads the last hours that
// were recorded, as many as within says: recorders tell of each open connection more often than that. A tape that is
// not there yet has none. It must not be called while this process has the tape open for writing.
func FindFollowed(ctx context.Context, dir, bootID string, cookies []uint64, within time.Duration) (map[uint64]Followed, error) {
	tape, err := OpenTapeContext(ctx, dir)
	if errors.Is(err, failure.ErrNoTape) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer tape.Close()
	found := map[uint64]Followed{}
	newest := int64(0)
	for place := len(tape.segs) - 1; place >= 0 && ctx.Err() == nil; place-- {
		seg := tape.segs[place]
		boot := seg.BootNamed(bootID)
		if boot == nil {
			break
		}
		newest = max(newest, boot.Last-boot.Offset)
		if boot.Last-boot.Offset < newest-int64(within) {
			break
		}
		err := tape.Use(place, func(conn *sqlite.Conn) error {
			for part := range slices.Chunk(cookies, mostCookies) {
				if err := findFollowedIn(conn, boot, part, found); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, segment.ErrGone) {
			return nil, fmt.Errorf("find open connections: %w", err)
		}
	}
	for cookie, f := range found {
		if f.Outcome.Duration >= 0 { // and what is open now, nobody saw connect
			delete(found, cookie)
		}
	}
	return found, ctx.Err()
}

// findFollowedIn adds what one segment says, later segments having been asked before. The newest connection of a socket counts.
func findFollowedIn(conn *sqlite.Conn, boot *segment.Boot, cookies []uint64, found map[uint64]Followed) error {
	here := map[uint64]Followed{}
	list := make([]string, len(cookies))
	for i, c := range cookies {
		list[i] = strconv.FormatInt(int64(c), 10)
	}
	for _, sql := range []string{
		`SELECT id, cookie, outcome FROM connection WHERE cookie IN (%s) ORDER BY id`,
		`SELECT f.id, c.cookie, f.outcome FROM ending f JOIN connection c ON c.id = f.id WHERE f.cookie = 0 AND c.cookie IN (%s) ORDER BY f.batch`,
		`SELECT id, cookie, outcome FROM ending WHERE cookie IN (%s) ORDER BY batch`, // of connections of earlier segments
	} {
		err := segment.Exec(conn, func(q *sqlite.Stmt) error {
			f := Followed{Connect: uint64(q.ColumnInt64(0) - boot.Offset), Outcome: unmeasured()}
			if n := q.ColumnLen(2); n > 0 {
				b := make([]byte, n)
				q.ColumnBytes(2, b)
				o, err := ParseOutcome(b)
				if err != nil {
					return err
				}
				f.Outcome = o.Outcome
			}
			cookie := uint64(q.ColumnInt64(1))
			if before, ok := here[cookie]; !ok || f.isAfter(before) || f.isSame(before) {
				here[cookie] = f
			}
			return nil
		}, fmt.Sprintf(sql, strings.Join(list, ",")))
		if err != nil {
			return err
		}
	}
	for cookie, f := range here {
		if later, ok := found[cookie]; !ok || f.isAfter(later) {
			found[cookie] = f
		}
	}
	return nil
}

// isSame reports whether both are of one connect: rows of the same nanosecond may have moved its own.
func (f Followed) isSame(other Followed) bool { return !f.isAfter(other) && !other.isAfter(f) }

func (f Followed) isAfter(other Followed) bool { return f.Connect >= other.Connect+updateWindow }

// unmeasured is an outcome of which nothing is known.
func unmeasured() Outcome {
	return Outcome{Established: Unmeasured, Duration: Unmeasured, Sent: Unmeasured, Received: Unmeasured, Retransmits: Unmeasured, RTT: Unmeasured}
}
