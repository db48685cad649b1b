package query

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"
)

// Source is one segment of a tape and a connection that it can be read through.
// Several may share a connection; those that do not are read at the same time.
type Source struct {
	Conn   *sqlite.Conn
	Schema string // name under which the segment is attached there
	Number int    // of the segment
}

// segmentSource is a source with what a plan must know of it.
type segmentSource struct {
	Source
	sealed      bool
	first, last int64 // ids of its first and last connection, when it is sealed
	clock       []clockRow
}

// clockRow says that from this id on the wall clock is that much ahead.
type clockRow struct{ from, offset int64 }

// wall returns the time on the wall clock of a time on the segment's clock.
func (s *segmentSource) wall(ns int64) int64 {
	i, found := slices.BinarySearchFunc(s.clock, ns, func(c clockRow, at int64) int {
		switch {
		case c.from < at:
			return -1
		case c.from > at:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 {
		return ns
	}
	return ns + s.clock[i].offset
}

// describe fills in what is known of a segment.
func (s *segmentSource) describe(ctx context.Context) (err error) {
	if s.sealed, err = isSealed(ctx, s.Conn, s.Schema); err != nil {
		return err
	}
	if s.sealed {
		err = each(ctx, s.Conn, `SELECT coalesce(first_ns, 0), coalesce(last_ns, -1) FROM `+s.Schema+`.seal`, func(row []Value) { s.first, s.last = row[0].Int, row[1].Int })
	}
	return errors.Join(err, each(ctx, s.Conn, `SELECT id, offset_ns FROM `+s.Schema+`.clock ORDER BY id`, func(row []Value) {
		s.clock = append(s.clock, clockRow{row[0].Int, row[1].Int})
	}))
}

// inParallel calls work for each source, those of one connection one after another,
// at most as many at a time as there are processors. The first error ends it.
func inParallel(ctx context.Context, sources []Source, work func(context.Context, *segmentSource) error) error {
	byConn := make(map[*sqlite.Conn][]Source)
	var order []*sqlite.Conn
	for _, s := range sources {
		if byConn[s.Conn] == nil {
			order = append(order, s.Conn)
		}
		byConn[s.Conn] = append(byConn[s.Conn], s)
	}
	slices.Reverse(order) // the newest, which has no summaries yet and takes longest, first
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	slots := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))
	var wait sync.WaitGroup
	for _, conn := range order {
		slots <- struct{}{}
		wait.Add(1)
		go func() {
			defer func() { <-slots; wait.Done() }()
			for _, source := range byConn[conn] {
				s := &segmentSource{Source: source}
				err := s.describe(ctx)
				if err == nil {
					err = work(ctx, s)
				}
				if err != nil {
					stop(err)
					return
				}
			}
		}()
	}
	wait.Wait()
	return context.Cause(ctx)
}
