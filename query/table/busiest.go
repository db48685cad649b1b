package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/posting"
	"github.com/conntape/conntape/store/segment"
)

// FindBusiest counts rows by process, from the newest segment back until the time limit. It leaves out unreadable
// segments. It returns nil if it could not count anything.
func FindBusiest(ctx context.Context, tape *store.Tape, limit time.Duration) (*coverage.Busiest, error) {
	timed, stop := context.WithTimeout(ctx, limit)
	defer stop()
	rows, total := map[int64]int64{}, int64(0)
	best := int64(0)
	for _, s := range slices.Backward(Of(tape).Sources()) {
		counted, err := s.countProcesses(timed)
		if timed.Err() != nil {
			break
		}
		if errors.Is(err, segment.ErrGone) || errors.Is(err, failure.ErrDamaged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for process, n := range counted {
			rows[process] += n
			total += n
		}
	}
	for process, n := range rows {
		if n > rows[best] || n == rows[best] && process < best {
			best = process
		}
	}
	if total == 0 {
		return nil, ctx.Err()
	}
	b := &coverage.Busiest{ProcessID: best, Program: "?", Connections: rows[best], Of: total}
	for _, s := range slices.Backward(Of(tape).Sources()) { // its name
		found := false
		err := s.each(ctx, `SELECT tgid, coalesce(exe, '[' || comm || ']', '?') FROM process WHERE id = :p1`, func(row []format.Value) {
			found, b.PID, b.Program = true, row[0].Int, string(row[1].Bytes)
		}, format.IntValue(best))
		if err == nil && found {
			break
		}
	}
	return b, ctx.Err()
}

// countProcesses counts a segment's rows by process; in a sealed one by the index, which is a fifth of the rows.
func (s *Source) countProcesses(ctx context.Context) (map[int64]int64, error) {
	tasks := map[int64]int64{}
	sealed, err := s.IsSealed(ctx)
	switch {
	case err != nil:
		return nil, err
	case sealed:
		err = s.countPostings(ctx, tasks)
	default:
		err = s.scan(ctx, `SELECT task, count(*) FROM connection GROUP BY task`, func(q *sqlite.Stmt) { tasks[q.ColumnInt64(0)] = q.ColumnInt64(1) })
	}
	if err != nil {
		return nil, err
	}
	processes := map[int64]int64{}
	return processes, s.scan(ctx, `SELECT id, process FROM task`, func(q *sqlite.Stmt) {
		if n := tasks[q.ColumnInt64(0)]; n > 0 {
			processes[q.ColumnInt64(1)] += n
		}
	})
}

// countPostings counts the rows of each task without unpacking them.
func (s *Source) countPostings(ctx context.Context, tasks map[int64]int64) error {
	var list []byte
	var damaged error
	err := s.scan(ctx, `SELECT list FROM posting`, func(q *sqlite.Stmt) {
		list = slices.Grow(list[:0], q.ColumnLen(0))[:q.ColumnLen(0)]
		q.ColumnBytes(0, list)
		r := posting.NewReader(list)
		for r.Next() {
			tasks[r.Task] += r.Rows
		}
		damaged = errors.Join(damaged, r.Err())
	})
	if err == nil && damaged != nil {
		return fmt.Errorf("%w: %w", failure.ErrDamaged, damaged)
	}
	return err
}
