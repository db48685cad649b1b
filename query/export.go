package query

import (
	"context"
	"slices"

	"github.com/conntape/conntape/store"
)

// Export writes every connection in the window of the views that passes the filter, the
// oldest first.
func Export(ctx context.Context, tape *store.Tape, f Filter, r Request, out RowWriter) (Result, error) {
	r.SQL = "SELECT * FROM connections ORDER BY time_ns"
	r, err := f.Apply(r)
	if err != nil {
		return Result{}, err
	}
	return RunSQL(ctx, tape, r, out)
}

// IdentityOf returns the identity of a tape, as its newest segment has it.
func IdentityOf(tape *store.Tape) *Identity {
	segments := tape.Segments()
	newest := segments[len(segments)-1]
	return &Identity{newest.TapeID, newest.Host, newest.MachineID}
}

// SealedSegments returns the places of the sealed segments among those of a tape: what is in them does not change any more.
func SealedSegments(ctx context.Context, tape *store.Tape) ([]int, error) {
	var places []int
	for _, s := range Sources(tape) {
		sealed, err := s.isSealed(ctx)
		if err != nil {
			return nil, err
		}
		if sealed {
			places = append(places, s.index)
		}
	}
	return places, nil
}

// ExportSegment writes every connection of one segment, by its place among those of the tape, the oldest first.
func ExportSegment(ctx context.Context, tape *store.Tape, place int, out RowWriter) (Result, error) {
	s := newStream(tape, newKnownView().columns, oldestFirst)
	s.segments = slices.DeleteFunc(s.segments, func(one *streamSegment) bool { return one.source.index != place })
	return s.run(ctx, Request{}, out)
}
