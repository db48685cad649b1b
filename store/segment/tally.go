package segment

import "zombiezen.com/go/sqlite"

// Tally is the number of rows and connects in a segment, which retention reports when it removes it. -1: unknown.
type Tally struct {
	Rows     int64 // rows of connection
	Connects int64 // connects of these rows
}

// UnknownTally is the tally of an unreadable file.
var UnknownTally = Tally{-1, -1}

// ReadTally reads the tally without counting, from the seal or the recorder's counters. It counts rows only in a segment
// without counters, which no recorder makes.
func ReadTally(conn *sqlite.Conn, sealed bool) (t Tally, err error) {
	read := func(q *sqlite.Stmt) error { t = Tally{q.ColumnInt64(0), q.ColumnInt64(1)}; return nil }
	if sealed {
		return t, Exec(conn, read, `SELECT rows, connects FROM seal`)
	}
	counted := false
	err = Exec(conn, func(q *sqlite.Stmt) error { counted = !q.ColumnIsNull(0); return read(q) },
		`SELECT sum(value - first) FILTER (WHERE name = 'stored'), sum(value - first) FROM counter WHERE name IN ('stored', 'coalesced')`)
	if err != nil || counted {
		return t, err
	}
	return t, Exec(conn, read, `SELECT count(*), count(*) + coalesce((SELECT sum(count - 1) FROM repeat), 0) FROM connection`)
}
