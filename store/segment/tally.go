package segment

import "zombiezen.com/go/sqlite"

// Tally is how much a segment holds: what is gone when retention removes it. -1: it
// cannot be known.
type Tally struct {
	Rows     int64 // of connection
	Connects int64 // that they stand for
}

// UnknownTally is that of a file that could not be read.
var UnknownTally = Tally{-1, -1}

// ReadTally reads it without counting: what sealing found, or what the recorder
// counted. Only of a segment without counters, which no recorder makes, the rows are
// counted.
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
