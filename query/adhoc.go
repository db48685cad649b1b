package query

import (
	"context"
	"regexp"
	"strings"

	"zombiezen.com/go/sqlite"
)

// For SQL that somebody wrote, SQLite chooses the order of its joins, and knows
// nothing of how many connections go to an endpoint: it reads them all where a port is
// asked for. Where the text of the SQL hints at a better order, the view is put before
// it with its joins in that order. The order of joins changes when an answer comes, and
// never what it is, so a hint that is wrong costs time alone.

// portHint is SQL that asks for a port and for no address.
var portHint = regexp.MustCompile(`(?i)\bremote_port\s*(=|\bin\b|\bbetween\b)`)

// RunSQL asks a question that somebody wrote; w is the window that the views were
// narrowed to.
func RunSQL(ctx context.Context, conn *sqlite.Conn, r Request, w Window, out RowWriter) (Result, error) {
	if s := streamOf(ctx, conn, r); s != nil {
		return s.run(ctx, conn, r, out)
	}
	if w.IsOpen() && portHint.MatchString(r.SQL) && !strings.Contains(strings.ToLower(r.SQL), "remote_address =") && !mentions(r.SQL, "explain") {
		if ordered, ok := endpointFirst(ctx, conn, r.SQL); ok {
			inner := r
			inner.SQL = ordered
			if compiles(conn, inner) {
				return Run(ctx, conn, inner, out)
			}
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

// endpointFirst puts the view before SQL so that sealed segments are read from their
// endpoints, whose connections an index finds.
func endpointFirst(ctx context.Context, conn *sqlite.Conn, sql string) (string, bool) {
	parts := viewParts(ctx, conn)
	if parts == nil {
		return "", false
	}
	all, changed := make(narrowing), false
	for segment, part := range parts {
		all[segment] = ""
		sealed, err := isSealed(ctx, conn, segment)
		if err != nil {
			return "", false
		}
		before := "\nFROM " + segment + ".connection c\nJOIN " + segment + ".endpoint e ON e.id = c.remote\n"
		if sealed && strings.Count(part, before) == 1 {
			parts[segment] = strings.Replace(part, before, "\nFROM "+segment+".endpoint e\nCROSS JOIN "+segment+".connection c ON c.remote = e.id\n", 1)
			changed = true
		}
	}
	return all.apply(parts, sql), changed
}
