package store

import "zombiezen.com/go/sqlite"

// tally is how much a segment holds: what is gone when retention removes it. -1: it
// cannot be known.
type tally struct {
	rows     int64 // of connection
	connects int64 // that they stand for
}

// unknownTally is that of a file that could not be read.
var unknownTally = tally{-1, -1}

// readTally reads it without counting: what sealing found, or what the recorder
// counted. Only of a segment without counters, which no recorder makes, the rows are
// counted.
func readTally(conn *sqlite.Conn, sealed bool) (t tally, err error) {
	read := func(q *sqlite.Stmt) error { t = tally{q.ColumnInt64(0), q.ColumnInt64(1)}; return nil }
	if sealed {
		return t, execOn(conn, read, `SELECT rows, connects FROM seal`)
	}
	counted := false
	err = execOn(conn, func(q *sqlite.Stmt) error { counted = !q.ColumnIsNull(0); return read(q) },
		`SELECT sum(value - first) FILTER (WHERE name = 'stored'), sum(value - first) FROM counter WHERE name IN ('stored', 'coalesced')`)
	if err != nil || counted {
		return t, err
	}
	return t, execOn(conn, read, `SELECT count(*), count(*) + coalesce((SELECT sum(count - 1) FROM repeat), 0) FROM connection`)
}

// add counts the connections of a batch that is committed.
func (t *tally) add(conns []Connection) {
	for i := range conns {
		if !conns[i].Update {
			t.rows++
			t.connects += int64(max(1, conns[i].Count))
		}
	}
}
