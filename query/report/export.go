package report

import (
	"context"
	"slices"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
)

// Export writes every connection in the window of the views that passes the filter, the
// oldest first.
func Export(ctx context.Context, tape *store.Tape, f Filter, r ask.Request, out format.RowWriter) (ask.Result, error) {
	r.SQL = "SELECT * FROM connections ORDER BY time_ns"
	r, err := f.Apply(r)
	if err != nil {
		return ask.Result{}, err
	}
	return table.RunSQL(ctx, tape, r, out)
}

// IdentityOf returns the identity of a tape, as its newest segment has it.
func IdentityOf(tape *store.Tape) *format.Identity {
	segments := tape.Segments()
	newest := segments[len(segments)-1]
	return &format.Identity{TapeID: newest.TapeID, Host: newest.Host, MachineID: newest.MachineID}
}

// SealedSegments returns the places of the sealed segments among those of a tape: what is in them does not change any more.
func SealedSegments(ctx context.Context, tape *store.Tape) ([]int, error) {
	var places []int
	for _, s := range table.Of(tape).Sources() {
		sealed, err := s.IsSealed(ctx)
		if err != nil {
			return nil, err
		}
		if sealed {
			places = append(places, s.Index)
		}
	}
	return places, nil
}

// ExportSegment writes every connection of one segment, by its place among those of the tape, the oldest first.
func ExportSegment(ctx context.Context, tape *store.Tape, place int, out format.RowWriter) (ask.Result, error) {
	s := table.NewStream(table.Of(tape), table.NewKnownView().Columns, table.OldestFirst)
	s.Segments = slices.DeleteFunc(s.Segments, func(one *table.StreamSegment) bool { return one.Source.Index != place })
	return s.Run(ctx, ask.Request{}, out)
}
