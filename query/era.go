package query

import (
	"errors"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// era is a part of a segment's time, in which the same is known of connections whose end was not told: whether the run that
// made them was the last one here, and whether their outcomes may have been among those that were lost since.
type era int

// eras are the times at which the second and the third era of a segment begin. The view says which of them are followed.
type eras [2]int64

// erasSQL reads eras.
const erasSQL = `SELECT run_ns, coalesce(lost_ns + 1, run_ns) FROM recording`

// readEras reads those of the segment that is open on conn.
func readEras(conn *sqlite.Conn) (e eras, err error) {
	stmt, _, err := conn.PrepareTransient(erasSQL)
	if err != nil {
		return e, err
	}
	defer stmt.Finalize()
	more, err := stmt.Step()
	if err != nil || !more {
		return eras{never, never}, err
	}
	run, lost := stmt.ColumnInt64(0), stmt.ColumnInt64(1)
	return eras{min(run, lost), max(run, lost)}, nil
}

// of returns the era of a connection.
func (e eras) of(id int64) era {
	switch {
	case id >= e[1]:
		return 2
	case id >= e[0]:
		return 1
	}
	return 0
}

// oneConnection is table c, as the view names it, of a connection that is of the same era as others.
func oneConnection(id int64) string { return "(SELECT " + strconv.FormatInt(id, 10) + " AS id) c" }

// openSource returns the source of the outcome of a connection that was established when a later segment told of it: what the
// view of that segment would say, had it the connection.
func openSource(tape *store.Tape, l *store.Later) (source Value, err error) {
	source = textValue("not in this file")
	err = tape.Use(l.Place, func(conn *sqlite.Conn) error {
		return segment.Exec(conn, func(row *sqlite.Stmt) error { source = textValue(row.ColumnText(0)); return nil }, `SELECT CASE
			WHEN ?1 >= followed_ns THEN 'open'
			WHEN ?1 < run_ns THEN 'recording ended'
			WHEN (SELECT state FROM segment) = 'closed' THEN 'not in this file'
			WHEN ?1 <= lost_ns THEN 'outcomes lost'
			ELSE 'recording ended' END FROM recording`, l.At)
	})
	if err != nil && !errors.Is(err, segment.ErrGone) {
		return source, fmt.Errorf("read what became of connections: %w", err)
	}
	return source, nil
}
