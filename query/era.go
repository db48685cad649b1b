package query

import (
	"errors"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// era is a part of a segment's time. Within it, connections without a recorded end are judged alike: whether their run
// was the segment's last, and whether their outcomes may be among events lost since.
type era int

// eras are the begins of the segment's second and third era. The view defines them.
type eras [2]int64

// erasSQL reads eras.
const erasSQL = `SELECT run_ns, coalesce(lost_ns + 1, run_ns) FROM recording`

// readEras reads the eras of the segment open on conn.
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

// oneConnection is table c of the view with one connection of the same era.
func oneConnection(id int64) string { return "(SELECT " + strconv.FormatInt(id, 10) + " AS id) c" }

// openSource returns the outcome_source of a connection that was still established when a later segment reported it: the
// value that this segment's view would have.
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
