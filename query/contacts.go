package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/conntape/conntape/store/posting"
	"zombiezen.com/go/sqlite"
)

// Queries that count read flows and not connections. A sealed segment has them packed in its postings, some nanoseconds
// a connection. Of an open segment they are made by sorting four numbers of each connection.

// contact is a flow: the connections of one task to one endpoint with one shape, or a part of them.
type contact struct {
	task, remote, shape       int32 // numbers of the segment
	taskID, remoteID, shapeID int64
	n                         int64   // connects
	ids                       []int64 // of the connections, ascending; valid until the next contact
	counts                    []int64 // connects of each; nil: one
}

// contactReader gets the flows of segments, one segment after the other. Flows of one endpoint come together, unless the
// endpoint is in several runs.
type contactReader interface {
	// begin starts a run of a segment with ids from first to last.
	begin(s *segmentSource, first, last int64)
	take(s *segmentSource, c *contact) error
	// end ends the run.
	end(s *segmentSource) error
}

// reading is the segments of a tape with connections in a window.
type reading struct {
	*numbers
	segments []*segmentSource
	byNumber map[int]*segmentSource
	from, to int64 // ids; to is not included
	all      bool  // probes included
}

// newReading describes the segments and adds their rows to the dictionary.
func (n *numbers) newReading(ctx context.Context, sources []Source, w Window, all bool) (*reading, error) {
	r := &reading{numbers: n, byNumber: make(map[int]*segmentSource), all: all}
	r.from, r.to = w.bounds()
	described := inWindow(sources, w)
	err := inParallel(ctx, described, func(ctx context.Context, _ int, s *segmentSource) error {
		if err := s.describe(ctx); err != nil {
			return err
		}
		if !r.touches(s) {
			return nil
		}
		return r.read(ctx, s)
	})
	for _, s := range described {
		if r.touches(s) {
			r.segments = append(r.segments, s)
			r.byNumber[s.Number] = s
		}
	}
	return r, err
}

// between returns a reading of ids within r's.
func (r *reading) between(span idSpan) *reading {
	part := &reading{numbers: r.numbers, byNumber: r.byNumber, all: r.all, from: max(span.from, r.from), to: min(span.to, r.to)}
	for _, s := range r.segments {
		if part.from < part.to && part.touches(s) {
			part.segments = append(part.segments, s)
		}
	}
	return part
}

// touches reports whether a segment may have connections in the window.
func (r *reading) touches(s *segmentSource) bool {
	return s.first <= s.last && s.last >= r.from && s.first < r.to
}

// contacts reads the window's flows, with one reader for each segment that is read at the same time.
func (r *reading) contacts(ctx context.Context, newReader func() contactReader) error {
	readers := make([]contactReader, parallelism())
	return inParallel(ctx, r.segments, func(ctx context.Context, slot int, s *segmentSource) error {
		if readers[slot] == nil {
			readers[slot] = newReader()
		}
		return s.contacts(ctx, r.from, r.to, readers[slot])
	})
}

// contacts reads one segment's flows whose process and endpoint are in the dictionary.
func (s *segmentSource) contacts(ctx context.Context, from, to int64, reader contactReader) error {
	from, to = max(from, s.first), min(to, s.last+1) // postings may lie
	if s.finals != nil {
		reader = finalReader{reader}
	}
	if s.sealed {
		return s.posted(ctx, nil, from, to, reader)
	}
	return s.sorted(ctx, []idSpan{{from, to}}, reader)
}

// posted reads the flows of a sealed segment, of some endpoints in ascending order, or nil: of all.
func (s *segmentSource) posted(ctx context.Context, remotes []int64, from, to int64, reader contactReader) error {
	reader.begin(s, from, to-1)
	err := s.tape.ScanPostings(ctx, s.index, remotes, from, to, func(remote int64, list []byte) error { return s.unpack(remote, list, from, to, reader) })
	if err != nil {
		return err
	}
	return reader.end(s)
}

// scratch returns reusable buffers for the connections of a list.
func (s *segmentSource) scratch() (ids, counts []int64) {
	if s.ids == nil {
		s.ids, s.counts = make([]int64, posting.MostBytes), make([]int64, posting.MostBytes)
	}
	return s.ids, s.counts
}

// unpack passes on the flows of a list.
func (s *segmentSource) unpack(remote int64, list []byte, from, to int64, reader contactReader) error {
	c := &s.contact
	c.remote, c.remoteID = s.remotes.of(remote), remote
	if c.remote < 0 {
		return nil
	}
	groups := posting.NewReader(list)
	ids, counts := s.scratch()
	for groups.Next() {
		if groups.Task > s.lastTask {
			break // they ascend
		}
		c.taskID, c.shapeID = groups.Task, groups.Shape
		c.task, c.shape = s.tasks.of(groups.Task), s.shapes.of(groups.Shape)
		if c.task < 0 || c.shape < 0 {
			continue // not in question
		}
		rows := 0
		c.n = 0
		for id, connects, ok := groups.Row(); ok; id, connects, ok = groups.Row() {
			if id < from || id >= to {
				continue
			}
			if rows == len(ids) {
				return fmt.Errorf("read postings of segment %d: %w", s.Number, posting.ErrCorrupt)
			}
			ids[rows], counts[rows] = id, connects
			rows++
			c.n += connects
		}
		if rows == 0 {
			continue
		}
		c.ids, c.counts = ids[:rows], nil
		if c.n != int64(rows) {
			c.counts = counts[:rows]
		}
		if err := reader.take(s, c); err != nil {
			return err
		}
	}
	if err := groups.Err(); err != nil {
		return fmt.Errorf("read postings of segment %d: %w", s.Number, err)
	}
	return nil
}

// mostSorted limits the connections sorted at a time, of each part.
const mostSorted = 1 << 17

// rowBatch is connections of an open segment.
type rowBatch struct {
	ids    []int64
	of     [3][]int32 // numbers of shape, task and remote
	order  []int32    // of the rows: by remote, task, shape and id
	before []int32    // order of the previous key
	starts []int32
}

func (b *rowBatch) clear() {
	b.ids = b.ids[:0]
	for i := range b.of {
		b.of[i] = b.of[i][:0]
	}
}

// sort computes order: a counting sort by key, the last key first.
func (b *rowBatch) sort() {
	b.order, b.before = b.order[:0], slices.Grow(b.before[:0], len(b.ids))[:len(b.ids)]
	for i := range b.ids {
		b.order = append(b.order, int32(i))
	}
	for _, keys := range b.of {
		b.order, b.before = b.before, b.order
		most := slices.Max(keys)
		b.starts = append(b.starts[:0], make([]int32, most+2)...)
		for _, k := range keys {
			b.starts[k+1]++
		}
		for k := range most {
			b.starts[k+1] += b.starts[k]
		}
		for _, row := range b.before {
			k := keys[row]
			b.order[b.starts[k]] = row
			b.starts[k]++
		}
	}
}

// sorted reads the connections of a segment in parallel parts, and passes on the flows of one batch at a time.
func (s *segmentSource) sorted(ctx context.Context, spans []idSpan, reader contactReader) error {
	var handing sync.Mutex
	var wait sync.WaitGroup
	parts := split(spans, parallelism())
	errs := make([]error, len(parts))
	for i, spans := range parts {
		wait.Go(func() {
			b := new(rowBatch)
			hand := func() error {
				if len(b.ids) == 0 {
					return nil
				}
				b.sort()
				handing.Lock()
				defer handing.Unlock()
				return s.flush(b, reader)
			}
			for _, span := range spans {
				errs[i] = s.tape.ScanConnections(ctx, s.index, span.from, span.to, s.wanted, func(id, task, remote, shape int64) error {
					s.addRow(b, id, task, remote, shape)
					if len(b.ids) == mostSorted {
						return hand()
					}
					return nil
				})
				if errs[i] != nil {
					return
				}
			}
			errs[i] = hand()
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// split divides spans into at most this many parts of similar length in time.
func split(spans []idSpan, parts int) [][]idSpan {
	var sum uint64
	for _, span := range spans {
		sum += uint64(span.to - span.from)
	}
	var all [][]idSpan
	for ; parts > 1 && len(spans) > 0; parts-- {
		share, part := sum/uint64(parts), []idSpan(nil)
		for share > 0 && len(spans) > 0 {
			first := spans[0]
			if length := uint64(first.to - first.from); length <= share {
				part, spans = append(part, first), spans[1:]
				share, sum = share-length, sum-length
				continue
			}
			middle := first.from + int64(share)
			part = append(part, idSpan{first.from, middle})
			spans = append([]idSpan{{middle, first.to}}, spans[1:]...)
			sum -= share
			break
		}
		if len(part) > 0 {
			all = append(all, part)
		}
	}
	if len(spans) > 0 {
		all = append(all, spans)
	}
	return all
}

// addRow adds a connection to a batch, unless it is not in question.
func (s *segmentSource) addRow(b *rowBatch, id, task, remote, shape int64) {
	to := s.remotes.of(remote)
	if to < 0 {
		return
	}
	who, how := s.tasks.of(task), s.shapes.of(shape)
	if who < 0 || how < 0 {
		return
	}
	b.ids = append(b.ids, id)
	b.of[0], b.of[1], b.of[2] = append(b.of[0], how), append(b.of[1], who), append(b.of[2], to)
}

// flush passes on the flows of a sorted batch and empties it.
func (s *segmentSource) flush(b *rowBatch, reader contactReader) error {
	reader.begin(s, b.ids[0], b.ids[len(b.ids)-1])
	var c contact
	var ids, counts []int64
	for at := 0; at < len(b.order); {
		row := b.order[at]
		c.shape, c.task, c.remote = b.of[0][row], b.of[1][row], b.of[2][row]
		ids, counts, c.n = ids[:0], counts[:0], 0
		for ; at < len(b.order); at++ {
			row := b.order[at]
			if b.of[0][row] != c.shape || b.of[1][row] != c.task || b.of[2][row] != c.remote {
				break
			}
			count := int64(1)
			if len(s.repeats) > 0 {
				count = s.repeatOf(b.ids[row]).count
			}
			ids, counts = append(ids, b.ids[row]), append(counts, count)
			c.n += count
		}
		c.ids, c.counts = ids, nil
		if c.n != int64(len(ids)) {
			c.counts = counts
		}
		c.taskID, c.remoteID, c.shapeID = s.tasks.ids[c.task], s.remotes.ids[c.remote], s.shapes.ids[c.shape]
		if err := reader.take(s, &c); err != nil {
			return err
		}
	}
	b.clear()
	return reader.end(s)
}

// end returns the time of the last connect of a row of the flow.
func (s *segmentSource) end(c *contact, i int) int64 {
	if c.counts == nil || c.counts[i] == 1 {
		return c.ids[i]
	}
	return s.repeatOf(c.ids[i]).last
}

// walls returns the first and the last time of a contact on the wall clock.
func (s *segmentSource) walls(c *contact) (first, last int64) {
	m := s.moments(c)
	return m.firstWall, m.lastWall
}

// moments returns the first and the last times of a contact.
func (s *segmentSource) moments(c *contact) moments {
	first, newest := c.ids[0], c.ids[len(c.ids)-1]
	firstWall, newestWall := s.wall(first), s.wall(newest)
	m := moments{first, newest, firstWall, newestWall, firstWall, newestWall}
	if s.steady && c.counts == nil {
		return m
	}
	m.ended = never
	for i, id := range c.ids {
		wall, end := s.wall(id), s.wall(s.end(c, i))
		m.firstWall, m.newestWall = min(m.firstWall, wall), max(m.newestWall, wall)
		m.ended, m.lastWall = min(m.ended, end), max(m.lastWall, end)
	}
	return m
}

// never is later than any time.
const never = 1<<63 - 1

// scan runs an internal query without copying its rows.
func scan(ctx context.Context, conn *sqlite.Conn, sql string, row func(*sqlite.Stmt)) error {
	before := conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(before)
	stmt, _, err := conn.PrepareTransient(strings.TrimSpace(sql))
	if err != nil {
		return explain(err)
	}
	defer stmt.Finalize()
	for {
		more, err := stmt.Step()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return explain(err)
		}
		if !more {
			return nil
		}
		row(stmt)
	}
}
