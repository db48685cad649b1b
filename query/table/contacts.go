package table

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store/posting"
	"zombiezen.com/go/sqlite"
)

// Queries that count read flows and not connections. A sealed segment has them packed in its postings, some nanoseconds
// a connection. Of an open segment they are made by sorting four numbers of each connection.

// Contact is a flow: the connections of one task to one endpoint with one shape, or a part of them.
type Contact struct {
	Task, Remote, Shape       int32 // numbers of the segment
	taskID, remoteID, shapeID int64
	N                         int64   // connects
	IDs                       []int64 // of the connections, ascending; valid until the next contact
	Counts                    []int64 // connects of each; nil: one
}

// Part returns the flow of some of the connections: of IDs[from:to].
func (c *Contact) Part(from, to int) Contact {
	part := *c
	part.IDs, part.N = c.IDs[from:to], int64(to-from)
	if c.Counts != nil {
		part.Counts, part.N = c.Counts[from:to], 0
		for _, n := range part.Counts {
			part.N += n
		}
	}
	return part
}

// ContactReader gets the flows of segments, one segment after the other. Flows of one endpoint come together, unless the
// endpoint is in several runs.
type ContactReader interface {
	// Begin starts a run of a segment with ids from first to last.
	Begin(s *SegmentSource, first, last int64)
	// Take gets a flow, which is valid until it returns.
	Take(s *SegmentSource, c *Contact) error
	// End ends the run.
	End(s *SegmentSource) error
}

// Reading is the segments of a tape with connections in a window.
type Reading struct {
	*numbers
	Segments []*SegmentSource
	ByNumber map[int]*SegmentSource
	From, To int64 // ids; to is not included
	All      bool  // probes included
}

// NewReading describes the segments and adds their rows to the dictionary.
func (n *numbers) NewReading(ctx context.Context, sources []Source, w input.Window, all bool) (*Reading, error) {
	r := &Reading{numbers: n, ByNumber: make(map[int]*SegmentSource), All: all}
	r.From, r.To = w.Bounds()
	described := inWindow(sources, w)
	err := inParallel(ctx, described, func(ctx context.Context, _ int, s *SegmentSource) error {
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
			r.Segments = append(r.Segments, s)
			r.ByNumber[s.Number] = s
		}
	}
	return r, err
}

// Between returns a reading of ids within r's, which may be read at the same time as other parts of r.
func (r *Reading) Between(span IDSpan) *Reading {
	part := &Reading{numbers: r.numbers, ByNumber: r.ByNumber, All: r.All, From: max(span.From, r.From), To: min(span.To, r.To)}
	for _, s := range r.Segments {
		if part.From < part.To && part.touches(s) {
			part.Segments = append(part.Segments, s.forPart())
		}
	}
	return part
}

// Ends returns the lowest and the highest id that a reading can have; first > last: it has none.
func (r *Reading) Ends() (first, last int64) {
	first, last = Never, -Never
	for _, s := range r.Segments {
		first, last = min(first, s.First), max(last, s.Last)
	}
	return max(first, r.From), min(last, r.To-1)
}

// forPart returns the segment with a state of its own for what changes while it is read.
func (s *SegmentSource) forPart() *SegmentSource {
	part := *s
	part.ids, part.counts, part.Shape = nil, nil, slices.Clip(s.Shape)
	if s.finals != nil {
		part.finals = &finals{s.finals.first, s.finals.last, maps.Clone(s.finals.shapes)}
	}
	return &part
}

// touches reports whether a segment may have connections in the window.
func (r *Reading) touches(s *SegmentSource) bool {
	return s.First <= s.Last && s.Last >= r.From && s.First < r.To
}

// Contacts reads the window's flows, with one reader for each segment that is read at the same time.
func (r *Reading) Contacts(ctx context.Context, newReader func() ContactReader) error {
	readers := make([]ContactReader, Parallelism())
	return inParallel(ctx, r.Segments, func(ctx context.Context, slot int, s *SegmentSource) error {
		if readers[slot] == nil {
			if readers[slot] = newReader(); !r.All {
				readers[slot] = probeFilter{readers[slot], r}
			}
		}
		return s.contacts(ctx, r.From, r.To, readers[slot])
	})
}

// probeFilter leaves out probes.
type probeFilter struct {
	ContactReader
	of *Reading
}

func (f probeFilter) Take(s *SegmentSource, c *Contact) error {
	if f.of.isProbe(s.Place[c.Remote], &s.Shape[c.Shape]) {
		return nil
	}
	return f.ContactReader.Take(s, c)
}

// contacts reads one segment's flows whose process and endpoint are in the dictionary.
func (s *SegmentSource) contacts(ctx context.Context, from, to int64, reader ContactReader) error {
	from, to = max(from, s.First), min(to, s.Last+1) // postings may lie
	if s.finals != nil {
		reader = finalReader{reader}
	}
	if s.sealed {
		return s.posted(ctx, nil, from, to, reader)
	}
	return s.sorted(ctx, []IDSpan{{from, to}}, reader)
}

// posted reads the flows of a sealed segment, of some endpoints in ascending order, or nil: of all.
func (s *SegmentSource) posted(ctx context.Context, remotes []int64, from, to int64, reader ContactReader) error {
	reader.Begin(s, from, to-1)
	err := s.Tape.ScanPostings(ctx, s.Index, remotes, from, to, func(remote int64, list []byte) error { return s.unpack(remote, list, from, to, reader) })
	if err != nil {
		return err
	}
	return reader.End(s)
}

// scratch returns reusable buffers for the connections of a list.
func (s *SegmentSource) scratch() (ids, counts []int64) {
	if s.ids == nil {
		s.ids, s.counts = make([]int64, posting.MostBytes), make([]int64, posting.MostBytes)
	}
	return s.ids, s.counts
}

// unpack passes on the flows of a list.
func (s *SegmentSource) unpack(remote int64, list []byte, from, to int64, reader ContactReader) error {
	c := &s.contact
	c.Remote, c.remoteID = s.remotes.of(remote), remote
	if c.Remote < 0 {
		return nil
	}
	groups := posting.NewReader(list)
	ids, counts := s.scratch()
	for groups.Next() {
		if groups.Task > s.lastTask {
			break // they ascend
		}
		c.taskID, c.shapeID = groups.Task, groups.Shape
		c.Task, c.Shape = s.tasks.of(groups.Task), s.shapes.of(groups.Shape)
		if c.Task < 0 || c.Shape < 0 {
			continue // not in question
		}
		rows := 0
		c.N = 0
		for id, connects, ok := groups.Row(); ok; id, connects, ok = groups.Row() {
			if id < from || id >= to {
				continue
			}
			if rows == len(ids) {
				return fmt.Errorf("read postings of segment %d: %w", s.Number, posting.ErrCorrupt)
			}
			ids[rows], counts[rows] = id, connects
			rows++
			c.N += connects
		}
		if rows == 0 {
			continue
		}
		c.IDs, c.Counts = ids[:rows], nil
		if c.N != int64(rows) {
			c.Counts = counts[:rows]
		}
		if err := reader.Take(s, c); err != nil {
			return err
		}
	}
	if err := groups.Err(); err != nil {
		return fmt.Errorf("read postings of segment %d: %w", s.Number, err)
	}
	return nil
}

// end returns the time of the last connect of a row of the flow.
func (s *SegmentSource) end(c *Contact, i int) int64 {
	if c.Counts == nil || c.Counts[i] == 1 {
		return c.IDs[i]
	}
	return s.RepeatOf(c.IDs[i]).last
}

// Walls returns the first and the last time of a contact on the wall clock.
func (s *SegmentSource) Walls(c *Contact) (first, last int64) {
	m := s.moments(c)
	return m.FirstWall, m.lastWall
}

// moments returns the first and the last times of a contact.
func (s *SegmentSource) moments(c *Contact) moments {
	first, newest := c.IDs[0], c.IDs[len(c.IDs)-1]
	firstWall, newestWall := s.Wall(first), s.Wall(newest)
	m := moments{first, newest, firstWall, newestWall, firstWall, newestWall}
	if s.steady && c.Counts == nil {
		return m
	}
	m.ended, m.lastWall = Never, -Never // the clock may have been set back between a row's time and its last one
	for i, id := range c.IDs {
		wall, end := s.Wall(id), s.Wall(s.end(c, i))
		m.FirstWall, m.newestWall = min(m.FirstWall, wall), max(m.newestWall, wall)
		m.ended, m.lastWall = min(m.ended, end), max(m.lastWall, end)
	}
	return m
}

// Never is later than any time.
const Never = 1<<63 - 1

// scan runs an internal query without copying its rows.
func scan(ctx context.Context, conn *sqlite.Conn, sql string, row func(*sqlite.Stmt)) error {
	before := conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(before)
	stmt, _, err := conn.PrepareTransient(strings.TrimSpace(sql))
	if err != nil {
		return ask.Explain(err)
	}
	defer stmt.Finalize()
	for {
		more, err := stmt.Step()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return ask.Explain(err)
		}
		if !more {
			return nil
		}
		row(stmt)
	}
}
