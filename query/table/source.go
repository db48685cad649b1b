package table

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
)

// Source is one segment of a tape with its own connection. Several segments may be read in parallel.
type Source struct {
	Number int // of the segment

	Tape  *Tape
	Index int // among its segments
	span  store.Span
	lent  func(func(*sqlite.Conn) error) error // lends another connection; nil: the tape does
}

// use lends fn a connection to the segment.
func (s *Source) use(fn func(*sqlite.Conn) error) error {
	if s.lent != nil {
		return s.lent(fn)
	}
	return s.Tape.Use(s.Index, fn)
}

// Sources returns the segments of a tape, oldest first.
func (tape *Tape) Sources() []Source {
	spans := tape.Spans()
	sources := make([]Source, 0, len(spans))
	for i, span := range spans {
		sources = append(sources, Source{Number: span.Number, Tape: tape, Index: i, span: span})
	}
	return sources
}

// scan runs an internal query on the segment without copying its rows.
func (s *Source) scan(ctx context.Context, sql string, row func(*sqlite.Stmt)) error {
	return s.use(func(conn *sqlite.Conn) error { return scan(ctx, conn, sql, row) })
}

// each runs an internal query on the segment and passes on its rows.
func (s *Source) each(ctx context.Context, sql string, row func([]format.Value), params ...format.Value) error {
	return s.use(func(conn *sqlite.Conn) error { return ask.Each(ctx, conn, sql, row, params...) })
}

// SegmentSource is a source with its description for plans.
type SegmentSource struct {
	Source
	sealed      bool
	First, Last int64 // lowest and highest id of its connections; first > last: there are none
	clock       []clockRow
	steady      bool // the wall clock was never set back
	repeats     []repeat

	tasks, remotes, shapes numbering
	Task                   []task  // by number
	Place                  []int32 // of the tape, by number of the remote
	Shape                  []shape
	finals                 *finals               // nil: none, or not in question
	later                  map[int64]store.Later // by connection: final outcome in later segments

	About    *Selection     // rows that the question is about
	wanted   segment.Wanted // filter for connections read row by row
	lastTask int64          // task of the last flow; never: any

	contact     Contact // last unpacked flow, and its buffer
	ids, counts []int64
}

// describable returns segments that are not described yet.
func describable(sources []Source) []*SegmentSource {
	segments := make([]*SegmentSource, len(sources))
	for i, source := range sources {
		segments[i] = &SegmentSource{Source: source}
	}
	return segments
}

// inWindow returns the segments that may have connections in a window. It opens no others.
func inWindow(sources []Source, w input.Window) []*SegmentSource {
	from, to := w.Bounds()
	var segments []*SegmentSource
	for i := range sources {
		if span := &sources[i].span; span.First <= span.Last && span.Last >= from && span.First < to {
			segments = append(segments, &SegmentSource{Source: sources[i]})
		}
	}
	return segments
}

// clockRow is the wall clock's offset from this id on.
type clockRow struct{ from, offset int64 }

// repeat is a row of several connects: their number and the time of the last.
type repeat struct{ id, Count, last int64 }

// Wall converts a time on the segment's clock to the wall clock.
func (s *SegmentSource) Wall(ns int64) int64 {
	i := sort.Search(len(s.clock), func(i int) bool { return s.clock[i].from > ns })
	if i == 0 {
		return ns
	}
	return ns + s.clock[i-1].offset
}

// describe reads the segment's description.
func (s *SegmentSource) describe(ctx context.Context) (err error) {
	if s.sealed, err = s.IsSealed(ctx); err != nil {
		return err
	}
	ends := `SELECT coalesce(min(id), 0), coalesce((SELECT max(id) FROM connection), -1) FROM connection`
	err = s.scan(ctx, ends, func(row *sqlite.Stmt) { s.First, s.Last = row.ColumnInt64(0), row.ColumnInt64(1) })
	if s.Last == math.MaxInt64 { // a span of ids excludes its end, so none includes this id
		return fmt.Errorf("read segment %d: %w: the time of connection %d is no clock's", s.Number, failure.ErrDamaged, s.Last)
	}
	s.steady, s.lastTask = true, Never
	return errors.Join(err, s.scan(ctx, `SELECT id, offset_ns FROM clock ORDER BY id`, func(row *sqlite.Stmt) {
		from, offset := row.ColumnInt64(0), row.ColumnInt64(1)
		if n := len(s.clock); n > 0 && s.clock[n-1].offset > offset {
			s.steady = false
		}
		s.clock = append(s.clock, clockRow{from, offset})
	}), s.scan(ctx, `SELECT id, count, last_ns FROM repeat ORDER BY id`, func(row *sqlite.Stmt) {
		s.repeats = append(s.repeats, repeat{row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2)})
	}))
}

// countRepeats returns how many rows of the segment do not stand for one connect.
func (s *Source) countRepeats(ctx context.Context) (n int64, err error) {
	err = s.scan(ctx, `SELECT count(*) FROM repeat`, func(row *sqlite.Stmt) { n = row.ColumnInt64(0) })
	return n, err
}

// RepeatOf returns the repeats of a connection.
func (s *SegmentSource) RepeatOf(id int64) repeat {
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

// inParallel calls work for each segment, on as many at a time as there are processors (slots). It ends at the first
// error. It skips removed segments.
func inParallel(ctx context.Context, segments []*SegmentSource, work func(ctx context.Context, slot int, s *SegmentSource) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	slots := make(chan int, Parallelism())
	for slot := range cap(slots) {
		slots <- slot
	}
	var wait sync.WaitGroup
	for _, s := range slices.Backward(segments) { // the newest first: it has no index yet and takes longest
		slot := <-slots
		if ctx.Err() != nil {
			break
		}
		wait.Go(func() {
			defer func() { slots <- slot }()
			if err := work(ctx, slot, s); err != nil && !errors.Is(err, segment.ErrGone) {
				stop(err)
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}

// Parallelism is the number of parallel workers.
func Parallelism() int { return max(1, runtime.GOMAXPROCS(0)) }

// IsSealed reports whether a segment has postings.
func (s *Source) IsSealed(ctx context.Context) (bool, error) {
	tables := 0
	err := s.scan(ctx, `SELECT count(*) FROM sqlite_schema WHERE name IN ('seal', 'posting', 'reach')`,
		func(row *sqlite.Stmt) { tables = row.ColumnInt(0) })
	return tables == 3, err
}

func JoinInts(list []int64) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(texts, ",")
}
