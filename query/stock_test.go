package query

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// stockOf returns a connection with the rows that the public views of all segments have, as SQLite reads them, in plain
// tables: what every answer is compared with. A view over each table gives its columns the affinity of the segment's view.
// The views are narrowed to the window.
func stockOf(t testing.TB, tape *store.Tape, w Window) *sqlite.Conn {
	t.Helper()
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	from, to := w.bounds()
	for _, view := range []string{"connections", "processes", "endpoints", "gaps", "segments", "inbound", "listeners"} {
		var declared, selected, places []string
		for _, c := range segment.ViewColumns(view) {
			declared, places = append(declared, c.Name+" "+c.Type), append(places, "?")
			if c.Type == "" {
				selected = append(selected, "+"+c.Name+" AS "+c.Name)
			} else {
				selected = append(selected, c.Name)
			}
		}
		where := "1"
		if slices.Contains([]string{"connections", "inbound", "listeners"}, view) {
			where = fmt.Sprintf("time_ns >= %d AND time_ns < %d", from, to)
		} else if view == "gaps" {
			where = fmt.Sprintf("coalesce(to_ns >= %d, 1) AND coalesce(from_ns < %d, 1)", from, to)
		}
		script := fmt.Sprintf("CREATE TABLE all_%[1]s (%[2]s); CREATE VIEW %[1]s AS SELECT %[3]s FROM all_%[1]s WHERE %[4]s;",
			view, strings.Join(declared, ", "), strings.Join(selected, ", "), where)
		if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
			t.Fatal(err)
		}
		insert, err := conn.Prepare("INSERT INTO all_" + view + " VALUES (" + strings.Join(places, ", ") + ")")
		if err != nil {
			t.Fatal(err)
		}
		end := sqlitex.Transaction(conn)
		for i := range tape.Segments() {
			copyRows(t, tape, i, view, insert)
		}
		end(&err)
		if err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// copyRows inserts the rows of a view of one segment; of connections that of a segment which knows what is recorded now.
func copyRows(t testing.TB, tape *store.Tape, place int, view string, insert *sqlite.Stmt) {
	t.Helper()
	from := view
	if view == "connections" {
		from = "(" + inRecording(segment.ViewQuery(view), tape.Recording(place)) + ")"
	}
	err := tape.Use(place, func(conn *sqlite.Conn) error {
		rows, _, err := conn.PrepareTransient("SELECT * FROM " + from)
		if err != nil {
			return err
		}
		defer rows.Finalize()
		reader := newRowReader(rows.ColumnCount())
		for {
			if more, err := rows.Step(); err != nil || !more {
				return err
			}
			for i, v := range reader.read(rows) {
				switch v.Kind {
				case Null:
					insert.BindNull(i + 1)
				case Integer:
					insert.BindInt64(i+1, v.Int)
				case Real:
					insert.BindFloat(i+1, v.Real)
				case Text:
					insert.BindText(i+1, string(v.Bytes))
				case Blob:
					insert.BindBytes(i+1, v.Bytes)
				}
			}
			if _, err := insert.Step(); err != nil {
				return err
			}
			if err := insert.Reset(); err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
