package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sort"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store"
)

// Source is one segment of a tape and a connection that it can be read through.
// Several may share a connection; those that do not are read at the same time.
type Source struct {
	Conn   *sqlite.Conn
	Schema string // name under which the segment is attached there
	Number int    // of the segment

	tape  *store.Tape
	index int // among its segments
}

// Sources returns the segments of a tape over its own connection, oldest first.
func Sources(tape *store.Tape) []Source {
	var sources []Source
	for i, s := range tape.Segments() {
		sources = append(sources, Source{Conn: tape.Conn(), Schema: fmt.Sprintf("s%d", i+1), Number: s.Number, tape: tape, index: i})
	}
	return sources
}

// Apart returns the segments of a tape over a connection of its own for each that is
// never written again, so that they can be read at the same time; one for which that
// cannot be opened is read over the connection of the tape. closeAll ends them.
func Apart(tape *store.Tape) (sources []Source, closeAll func()) {
	sources = Sources(tape)
	opened := make([]*sqlite.Conn, len(sources))
	atOnce := func(work func(i int)) {
		var wait sync.WaitGroup
		for i := range opened {
			wait.Go(func() { work(i) })
		}
		wait.Wait()
	}
	segments := tape.Segments()
	atOnce(func(i int) {
		if segments[i].Snapshot || len(sources) == 1 {
			return
		}
		if conn, err := tape.Apart(i); err == nil {
			opened[i], sources[i].Conn = conn, conn
		}
	})
	return sources, func() {
		atOnce(func(i int) {
			if opened[i] != nil {
				opened[i].Close()
			}
		})
	}
}

// segmentSource is a source with what a plan must know of it.
type segmentSource struct {
	Source
	sealed      bool
	first, last int64 // lowest and highest id of its connections; first > last: there are none
	clock       []clockRow
	steady      bool // the wall clock was never set back
	repeats     []repeat

	tasks, remotes, shapes numbering
	task                   []task  // by number
	place                  []int32 // of the tape, by number of the remote
	shape                  []shape

	about    *selection   // of a question that is about some of it
	wanted   store.Wanted // of connections that are read row by row
	lastTask int64        // that contacts are wanted of, and never: any

	contact     contact // that was unpacked last, and room for it
	ids, counts []int64
}

// describable returns segments of which nothing is known yet.
func describable(sources []Source) []*segmentSource {
	var segments []*segmentSource
	for _, source := range sources {
		segments = append(segments, &segmentSource{Source: source})
	}
	return segments
}

// clockRow says that from this id on the wall clock is that much ahead.
type clockRow struct{ from, offset int64 }

// repeat says for how many connects a connection stands, and when the last was.
type repeat struct{ id, count, last int64 }

// wall returns the time on the wall clock of a time on the segment's clock.
func (s *segmentSource) wall(ns int64) int64 {
	i := sort.Search(len(s.clock), func(i int) bool { return s.clock[i].from > ns })
	if i == 0 {
		return ns
	}
	return ns + s.clock[i-1].offset
}

// describe fills in what is known of a segment.
func (s *segmentSource) describe(ctx context.Context) (err error) {
	if s.sealed, err = isSealed(ctx, s.Conn, s.Schema); err != nil {
		return err
	}
	ends := `SELECT coalesce(min(id), 0), coalesce((SELECT max(id) FROM ` + s.Schema + `.connection), -1) FROM ` + s.Schema + `.connection`
	err = scan(ctx, s.Conn, ends, func(row *sqlite.Stmt) { s.first, s.last = row.ColumnInt64(0), row.ColumnInt64(1) })
	if s.last == math.MaxInt64 { // no span of ids, whose end is not in it, has that one
		return fmt.Errorf("read segment %d: %w: the time of connection %d is no clock's", s.Number, store.ErrDamaged, s.last)
	}
	s.steady, s.lastTask = true, never
	return errors.Join(err, scan(ctx, s.Conn, `SELECT id, offset_ns FROM `+s.Schema+`.clock ORDER BY id`, func(row *sqlite.Stmt) {
		from, offset := row.ColumnInt64(0), row.ColumnInt64(1)
		if n := len(s.clock); n > 0 && s.clock[n-1].offset > offset {
			s.steady = false
		}
		s.clock = append(s.clock, clockRow{from, offset})
	}), scan(ctx, s.Conn, `SELECT id, count, last_ns FROM `+s.Schema+`.repeat ORDER BY id`, func(row *sqlite.Stmt) {
		s.repeats = append(s.repeats, repeat{row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2)})
	}))
}

// repeatOf returns the repeats of a connection.
func (s *segmentSource) repeatOf(id int64) repeat {
	i, found := slices.BinarySearchFunc(s.repeats, id, func(r repeat, id int64) int {
		switch {
		case r.id < id:
			return -1
		case r.id > id:
			return 1
		}
		return 0
	})
	if !found {
		return repeat{id, 1, id}
	}
	return s.repeats[i]
}

// inParallel calls work for each segment, those of one connection one after another,
// at most as many at a time as there are processors, which are the slots. The first
// error ends it.
func inParallel(ctx context.Context, segments []*segmentSource, work func(ctx context.Context, slot int, s *segmentSource) error) error {
	byConn := make(map[*sqlite.Conn][]*segmentSource)
	var order []*sqlite.Conn
	for _, s := range segments {
		if byConn[s.Conn] == nil {
			order = append(order, s.Conn)
		}
		byConn[s.Conn] = append(byConn[s.Conn], s)
	}
	slices.Reverse(order) // the newest, which has no index yet and takes longest, first
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	slots := make(chan int, parallelism())
	for slot := range cap(slots) {
		slots <- slot
	}
	var wait sync.WaitGroup
	for _, conn := range order {
		slot := <-slots
		wait.Add(1)
		go func() {
			defer func() { slots <- slot; wait.Done() }()
			for _, s := range slices.Backward(byConn[conn]) {
				if err := work(ctx, slot, s); err != nil {
					stop(err)
				}
				if ctx.Err() != nil {
					return
				}
			}
		}()
	}
	wait.Wait()
	return context.Cause(ctx)
}

// parallelism is how many things are done at a time.
func parallelism() int { return max(1, runtime.GOMAXPROCS(0)) }
