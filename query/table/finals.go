package table

import (
	"context"
	"errors"
	"maps"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// Queries that count take success and failure from shapes. If a later segment has the final outcome of connections, they
// are passed on as flows of an artificial shape with this outcome.

// finals are the shapes of connections with a final outcome in later segments.
type finals struct {
	first, last int64                // lowest and highest connection
	shapes      map[finalShape]int32 // numbers of the artificial shapes
}

// finalShape is a shape's number and a final outcome.
type finalShape struct {
	shape int32
	final store.Final
}

// ReadFinals makes flows tell the final outcome, even if a later segment has it.
func (r *Reading) ReadFinals(ctx context.Context) error {
	if err := readLater(ctx, r.Segments); err != nil {
		return err
	}
	for _, s := range r.Segments {
		if len(s.later) > 0 {
			ids := slices.Collect(maps.Keys(s.later))
			s.finals = &finals{slices.Min(ids), slices.Max(ids), make(map[finalShape]int32)}
		}
	}
	return nil
}

// readLater reads the finals in later segments, one segment at a time, for all earlier ones.
func readLater(ctx context.Context, segments []*SegmentSource) (err error) {
	for _, s := range segments {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.later, err = s.Tape.Endings(s.Index); err != nil && !errors.Is(err, segment.ErrGone) {
			return err
		}
	}
	return nil
}

// finalReader passes flows on, each with the shape of its final outcome.
type finalReader struct{ ContactReader }

func (r finalReader) Take(s *SegmentSource, c *Contact) error {
	f := s.finals
	later := func(id int64) bool { _, is := s.later[id]; return is }
	if c.IDs[0] > f.last || c.IDs[len(c.IDs)-1] < f.first || !slices.ContainsFunc(c.IDs, later) {
		return r.ContactReader.Take(s, c)
	}
	for final, part := range apart(c, func(id int64) store.Final { return s.later[id].Final }) {
		part.Shape = s.shapeOf(c.Shape, final)
		if err := r.ContactReader.Take(s, part); err != nil {
			return err
		}
	}
	return nil
}

// shapeOf returns the number of a shape with this final outcome.
func (s *SegmentSource) shapeOf(number int32, final store.Final) int32 {
	how := s.Shape[number]
	if final == store.FinalUnknown || how.decided {
		return number
	}
	key := finalShape{number, final}
	other, known := s.finals.shapes[key]
	if !known {
		how.Failed = isFailure(final)
		other = int32(len(s.Shape))
		s.Shape, s.finals.shapes[key] = append(s.Shape, how), other
	}
	return other
}

// isFailure reports whether connects with this final failed, as column failed of the view does.
func isFailure(final store.Final) bool {
	switch final {
	case store.FinalUnknown, store.FinalEstablished, 4, 11, 32, 103, 104, 106, 114, 115, 512:
		return false
	}
	return true
}

// apart splits the connections of a flow by a key.
func apart[K comparable](c *Contact, key func(id int64) K) map[K]*Contact {
	parts := make(map[K]*Contact)
	for i, id := range c.IDs {
		k := key(id)
		part := parts[k]
		if part == nil {
			part = &Contact{Task: c.Task, Remote: c.Remote, Shape: c.Shape, taskID: c.taskID, remoteID: c.remoteID, shapeID: c.shapeID}
			parts[k] = part
		}
		n := int64(1)
		if c.Counts != nil {
			n = c.Counts[i]
			part.Counts = append(part.Counts, n)
		}
		part.IDs, part.N = append(part.IDs, id), part.N+n
	}
	return parts
}

// widen extends a selection by shapes: connections with a final in a later segment may match too.
func (s *SegmentSource) widen(ctx context.Context) error {
	switch {
	case len(s.later) == 0 || s.About.shapes == "":
		return nil
	case len(s.later) > s.Tape.Limits.Listed:
		s.About.shapes = ""
		return nil
	}
	var shapes []int64
	ids := slices.Collect(maps.Keys(s.later))
	err := s.scan(ctx, `SELECT DISTINCT shape FROM connection WHERE id IN (`+JoinInts(ids)+`)`, func(row *sqlite.Stmt) { shapes = append(shapes, row.ColumnInt64(0)) })
	s.About.shapes = `(` + s.About.shapes + `) OR id IN (` + JoinInts(shapes) + `)`
	return err
}
