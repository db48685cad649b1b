package query

import (
	"context"

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
