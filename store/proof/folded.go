package proof

import (
	"math"

	"github.com/conntape/conntape/store/segment"
)

// Sealing moves endings into the rows of their connections (see segment.Told). The chain has them as they were recorded.

// folded is an ending in the row of its connection.
type folded struct {
	id      int64
	shape   int64 // that it gave the connection
	changed bool  // the connection had another one before
	outcome []byte
}

// unfold takes the outcome of a row apart. It reports whether sealing, or the recorder, writes it so.
func (row *storedRow) unfold() bool {
	stored := row.Outcome
	outcome, told, ok := segment.ReadTold(stored)
	if !ok || told == nil {
		return ok
	}
	row.told, row.ended, row.Outcome = told, outcome, told.Before
	again, ok := told.Append(nil, outcome)
	return ok && string(again) == string(stored)
}

// noteFolded keeps the ending in a row until its batch, which is the row's own or a later one.
func (r *replay) noteFolded(row *storedRow) {
	if row.told == nil || r.ended != nil {
		return
	}
	if _, other := r.unfolded[row.ID]; other { // which readers would take for the later one
		row.odd = true
	}
	t := row.told
	r.folded[t.Batch] = append(r.folded[t.Batch], folded{row.ID, row.Shape, t.Shape != 0, row.ended})
	if t.Shape != 0 && len(r.shapes.before[row.ID]) > 0 {
		r.shapes.before[row.ID] = append(r.shapes.before[row.ID], revision{t.Batch, t.Shape})
	}
}

// changes digests the connections that a batch gave another shape.
func (r *replay) changes(batch int64) error {
	rest := r.folded[batch]
	below := func(id int64) {
		for len(rest) > 0 && rest[0].id < id {
			if rest[0].changed {
				r.hasher.Change(rest[0].id, rest[0].shape)
			}
			rest = rest[1:]
		}
	}
	err := r.shapes.each(r.conn, batch, func(id, shape int64) {
		below(id)
		r.hasher.Change(id, shape)
	})
	below(math.MaxInt64)
	return err
}

// endingsOf digests the endings of a batch.
func (r *replay) endingsOf(batch int64) error {
	rest := r.endings[batch]
	for _, e := range r.folded[batch] {
		n := 0
		for n < len(rest) && rest[n].Compare(segment.EndingKey{ID: e.id}) < 0 {
			n++
		}
		if err := segment.HashEndings(r.hasher, r.conn, batch, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
		r.hasher.Ending(e.id, batch, r.finals[e.shape], e.outcome)
	}
	return segment.HashEndings(r.hasher, r.conn, batch, rest)
}
