package query

import (
	"context"

	"zombiezen.com/go/sqlite"
)

// Export writes every connection, the oldest first.
func Export(ctx context.Context, conn *sqlite.Conn, r Request, out RowWriter) (Result, error) {
	r.SQL = "SELECT * FROM connections ORDER BY time_ns"
	if s := streamOf(ctx, conn, r); s != nil {
		return s.run(ctx, conn, r, out)
	}
	return Run(ctx, conn, r, out)
}
