package query

import (
	"context"
	"strings"

	"github.com/conntape/conntape/store"
	"zombiezen.com/go/sqlite"
)

// RunSQL asks a question that somebody wrote; w is the window that the views were
// narrowed to.
func RunSQL(ctx context.Context, tape *store.Tape, r Request, w Window, out RowWriter) (Result, error) {
	conn := tape.Conn()
	if s := streamOf(ctx, conn, r); s != nil {
		return s.run(ctx, conn, r, out)
	}
	if !mentions(r.SQL, "explain") {
		var stop context.CancelFunc
		ctx, stop = withTimeLimit(ctx, r.Timeout) // for what is read beside the statement
		defer stop()
		if sql, ok := asVirtual(ctx, tape, r, w); ok {
			r.SQL = sql
			return Run(ctx, conn, r, out)
		}
	}
	return Run(ctx, conn, r, out)
}

// mentions reports whether SQL begins with a word.
func mentions(sql, word string) bool {
	rest := skipBlank(sql)
	return len(rest) >= len(word) && strings.EqualFold(rest[:len(word)], word)
}

// compiles reports whether SQL can be asked as it was rewritten. What is wrong with
// what was asked is told of the SQL as it was written.
func compiles(conn *sqlite.Conn, r Request) bool {
	stmt, trailing, err := conn.PrepareTransient(r.SQL)
	if err != nil {
		return false
	}
	defer stmt.Finalize()
	return skipBlank(r.SQL[len(r.SQL)-trailing:]) == ""
}
