package query

import (
	"context"
	"errors"
	"maps"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// What counts over a tape takes from shapes whether connects failed. Where a later segment says what connections came to, they
// are handed over as contacts of a shape that says so, which no segment has.

// finals are the shapes of connections of which later segments say more.
type finals struct {
	first, last int64                // least and greatest connection
	shapes      map[finalShape]int32 // numbers of the shapes that say so
}

// finalShape is a shape by its number, and what connections of it came to.
type finalShape struct {
	shape int32
	final store.Final
}

// readFinals has contacts tell what connections came to in the end, also where that is in a later segment.
func (r *reading) readFinals(ctx context.Context) error {
	if err := readLater(ctx, r.segments); err != nil {
		return err
	}
	for _, s := range r.segments {
		if len(s.later) > 0 {
			ids := slices.Collect(maps.Keys(s.later))
			s.finals = &finals{slices.Min(ids), slices.Max(ids), make(map[finalShape]int32)}
		}
	}
	return nil
}

// readLater reads what later segments say of connections, one segment after another: each is asked for several.
func readLater(ctx context.Context, segments []*segmentSource) (err error) {
	for _, s := range segments {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.later, err = s.tape.Endings(s.index); err != nil && !errors.Is(err, segment.ErrGone) {
			return err
		}
	}
	return nil
}

// finalReader hands contacts on to a reader, each with the shape that says what became of it in the end.
type finalReader struct{ contactReader }

func (r finalReader) take(s *segmentSource, c *contact) error {
	f := s.finals
	later := func(id int64) bool { _, is := s.later[id]; return is }
	if c.ids[0] > f.last || c.ids[len(c.ids)-1] < f.first || !slices.ContainsFunc(c.ids, later) {
		return r.contactReader.take(s, c)
	}
	for final, part := range apart(c, func(id int64) store.Final { return s.later[id].Final }) {
		part.shape = s.shapeOf(c.shape, final)
		if err := r.contactReader.take(s, part); err != nil {
			return err
		}
	}
	return nil
}

// shapeOf returns the number of a shape whose connections came to something.
func (s *segmentSource) shapeOf(number int32, final store.Final) int32 {
	how := s.shape[number]
	if final == store.FinalUnknown || how.decided {
		return number
	}
	key := finalShape{number, final}
	other, known := s.finals.shapes[key]
	if !known {
		how.failed = isFailure(final)
		other = int32(len(s.shape))
		s.shape, s.finals.shapes[key] = append(s.shape, how), other
	}
	return other
}

// isFailure reports whether connects that came to it failed: notFailed has the errnos.
func isFailure(final store.Final) bool {
	switch final {
	case store.FinalUnknown, store.FinalEstablished, 4, 11, 32, 103, 104, 106, 114, 115, 512:
		return false
	}
	return true
}

// notFailed are the errnos, and what stands for none, of connects that did not fail.
const notFailed = `-1, 0, 4, 11, 32, 103, 104, 106, 114, 115, 512`

// apart parts the connections of a contact by a key.
func apart[K comparable](c *contact, key func(id int64) K) map[K]*contact {
	parts := make(map[K]*contact)
	for i, id := range c.ids {
		k := key(id)
		part := parts[k]
		if part == nil {
			part = &contact{task: c.task, remote: c.remote, shape: c.shape, taskID: c.taskID, remoteID: c.remoteID, shapeID: c.shapeID}
			parts[k] = part
		}
		n := int64(1)
		if c.counts != nil {
			n = c.counts[i]
			part.counts = append(part.counts, n)
		}
		part.ids, part.n = append(part.ids, id), part.n+n
	}
	return parts
}

// widen has a selection by shapes take in those of connections that a later segment tells more of.
func (s *segmentSource) widen(ctx context.Context) error {
	switch {
	case len(s.later) == 0 || s.about.shapes == "":
		return nil
	case len(s.later) > mostListed:
		s.about.shapes = ""
		return nil
	}
	var shapes []int64
	ids := slices.Collect(maps.Keys(s.later))
	err := s.scan(ctx, `SELECT DISTINCT shape FROM connection WHERE id IN (`+joinInts(ids)+`)`, func(row *sqlite.Stmt) { shapes = append(shapes, row.ColumnInt64(0)) })
	s.about.shapes = `(` + s.about.shapes + `) OR id IN (` + joinInts(shapes) + `)`
	return err
}
