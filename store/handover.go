package store

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
)

// Handover is what a recorder takes over from the last one: the kernel kept what happened between them.
type Handover struct {
	Before uint64 // number that the last recorder wrote (see [LastHandover]); 0: nothing is taken over
	Lost   uint64 // connects that the last one had read and not written, and that are gone
	Next   uint64 // number that the tape begins with; 0: none
}

// errHandover means that another recorder wrote to the tape since it was asked for its last handover.
var errHandover = errors.New("another recorder wrote to the tape meanwhile")

// LastHandover returns the last number of a handover that a recorder of this boot wrote (segment.HandoverCounter), 0 if there is none.
// It must not be called while this process has the tape open for writing.
func LastHandover(ctx context.Context, dir, bootID string) (number uint64, err error) {
	tape, err := OpenTapeContext(ctx, dir)
	if errors.Is(err, failure.ErrNoTape) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer tape.Close()
	last := len(tape.segs) - 1
	if last < 0 || tape.segs[last].BootNamed(bootID) == nil {
		return 0, nil
	}
	err = tape.Use(last, func(conn *sqlite.Conn) error {
		number, err = lastHandover(func(result func(*sqlite.Stmt) error, sql string, args ...any) error {
			return segment.Exec(conn, result, sql, args...)
		}, bootID)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read last handover: %w", err)
	}
	return number, nil
}

func lastHandover(query func(func(*sqlite.Stmt) error, string, ...any) error, bootID string) (number uint64, err error) {
	err = query(func(q *sqlite.Stmt) error { number = uint64(q.ColumnInt64(0)); return nil },
		`SELECT value FROM counter WHERE name = ? AND run = (SELECT max(id) FROM run)
			AND (SELECT boot_id FROM boot WHERE id = (SELECT boot FROM run ORDER BY id DESC LIMIT 1)) = ?`, segment.HandoverCounter, bootID)
	return number, err
}

// handOver ends the account of the last run where this recorder goes on: what was in flight is in the account of this one. It
// returns what the gap between them is to say, "" if nothing is taken over.
func (s *activeSegment) handOver(h Handover) (detail string, err error) {
	if h.Before == 0 {
		return "", nil
	}
	last, err := lastHandover(s.query, s.bootID)
	if err != nil {
		return "", err
	}
	if last != h.Before {
		return "", errHandover
	}
	var flying uint64
	err = s.query(func(q *sqlite.Stmt) error { flying = uint64(q.ColumnInt64(0)); return nil },
		`SELECT value FROM counter WHERE name = 'in_flight' AND run = (SELECT max(id) FROM run)`)
	if err != nil {
		return "", err
	}
	if err := s.exec(`UPDATE counter SET value = 0 WHERE name = 'in_flight' AND run = (SELECT max(id) FROM run)`); err != nil {
		return "", err
	}
	for name, n := range map[string]uint64{
		segment.HandedOverCounter: flying - min(flying, h.Lost),
		"seen":                    h.Lost - min(flying, h.Lost), // that came after the last batch
		"lost":                    h.Lost,
		"lost_crash":              h.Lost,
	} {
		if err := s.addToLastRun(name, n); err != nil {
			return "", err
		}
	}
	if h.Lost == 0 {
		return "; nothing was lost: the kernel kept what happened until the next one", nil
	}
	return fmt.Sprintf("; the kernel kept what happened until the next one, but for %d connects that it had read in a flood and not written", h.Lost), nil
}

// addToLastRun counts something for the last run.
func (s *activeSegment) addToLastRun(name string, n uint64) error {
	if n == 0 {
		return nil
	}
	return s.exec(`INSERT INTO counter (run, name, first, value) SELECT max(id), ?, 0, ? FROM run WHERE true
		ON CONFLICT (run, name) DO UPDATE SET value = value + excluded.value`, name, n)
}
