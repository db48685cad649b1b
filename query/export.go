package query

import (
	"context"

	"github.com/conntape/conntape/store"
)

// Export writes every connection in the window of the views, the oldest first.
func Export(ctx context.Context, tape *store.Tape, r Request, out RowWriter) (Result, error) {
	r.SQL = "SELECT * FROM connections ORDER BY time_ns"
	return RunSQL(ctx, tape, r, out)
}
