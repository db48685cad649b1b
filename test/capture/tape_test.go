package capture

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/store"
)

// A row of a view: a column is nil, an int64, a float64 or a string.
type row map[string]any

func (r row) int(column string) int64 {
	n, _ := r[column].(int64)
	return n
}

func (r row) text(column string) string {
	s, _ := r[column].(string)
	return s
}

// rows asks a tape, as it is now.
func rows(t testing.TB, dir, query string, args ...any) []row {
	t.Helper()
	tape := openTape(t, dir)
	defer tape.Close()
	return ask(t, tape, query, args...)
}

func openTape(t testing.TB, dir string) *store.Tape {
	t.Helper()
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatalf("open tape: %v", err)
	}
	return tape
}

func ask(t testing.TB, tape *store.Tape, query string, args ...any) []row {
	t.Helper()
	var all []row
	err := sqlitex.Execute(tape.Conn(), query, &sqlitex.ExecOptions{Args: args, ResultFunc: func(stmt *sqlite.Stmt) error {
		all = append(all, readRow(stmt))
		return nil
	}})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return all
}

func readRow(stmt *sqlite.Stmt) row {
	r := row{}
	for i := range stmt.ColumnCount() {
		switch name := stmt.ColumnName(i); stmt.ColumnType(i) {
		case sqlite.TypeInteger:
			r[name] = stmt.ColumnInt64(i)
		case sqlite.TypeFloat:
			r[name] = stmt.ColumnFloat(i)
		case sqlite.TypeText:
			r[name] = stmt.ColumnText(i)
		case sqlite.TypeBlob:
			blob := make([]byte, stmt.ColumnLen(i))
			stmt.ColumnBytes(i, blob)
			r[name] = hex.EncodeToString(blob)
		default:
			r[name] = nil
		}
	}
	return r
}

// number asks a tape for one number; NULL is 0.
func number(t testing.TB, dir, query string, args ...any) int64 {
	t.Helper()
	all := rows(t, dir, query, args...)
	if len(all) != 1 || len(all[0]) != 1 {
		t.Fatalf("%s: want one number, got %v", query, all)
	}
	for _, v := range all[0] {
		n, _ := v.(int64)
		return n
	}
	return 0
}

// counter returns a counter of the recorder, over all segments.
func counter(t testing.TB, dir, name string) (n uint64) {
	t.Helper()
	tape := openTape(t, dir)
	defer tape.Close()
	for _, s := range tape.Segments() {
		n += s.Counters[name]
	}
	return n
}

// An account says what became of the events that the kernel saw.
type account struct{ seen, stored, coalesced, excluded, lost int64 }

func readAccount(t testing.TB, dir string) account {
	t.Helper()
	tape := openTape(t, dir)
	defer tape.Close()
	var a account
	for _, s := range tape.Segments() {
		for name, to := range map[string]*int64{"seen": &a.seen, "stored": &a.stored, "coalesced": &a.coalesced, "excluded": &a.excluded, "lost": &a.lost} {
			*to += int64(s.Counters[name])
		}
	}
	return a
}

func (a account) missing() int64 { return a.seen - a.stored - a.coalesced - a.excluded - a.lost }

// tellTape lists the gaps and the counters of a tape that are not zero, for the log of a test that failed.
func tellTape(dir string) string {
	tape, err := store.OpenTape(dir)
	if err != nil {
		return err.Error()
	}
	defer tape.Close()
	var told []string
	for _, s := range tape.Segments() {
		for name, value := range s.Counters {
			if value != 0 {
				told = append(told, fmt.Sprintf("%d:%s=%d", s.Number, name, value))
			}
		}
	}
	slices.Sort(told)
	err = sqlitex.Execute(tape.Conn(), `SELECT * FROM gaps LIMIT 20`, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		told = append(told, fmt.Sprint(readRow(stmt)))
		return nil
	}})
	if err != nil {
		told = append(told, err.Error())
	}
	return strings.Join(told, "\n")
}

// checkAccount checks a closed tape: every event counted by the kernel is stored, coalesced, excluded or reported lost.
func checkAccount(t testing.TB, dir string) account {
	t.Helper()
	a := readAccount(t, dir)
	if a.missing() != 0 {
		t.Errorf("account: %d of those seen are missing: %+v", a.missing(), a)
	}
	checkRows(t, dir, a)
	return a
}

// checkRows checks that the tape has as many rows as its counters say.
func checkRows(t testing.TB, dir string, a account) {
	t.Helper()
	if n := number(t, dir, `SELECT count(*) FROM connections`); n != a.stored {
		t.Errorf("account: stored says %d, the tape has %d rows", a.stored, n)
	}
	if n := number(t, dir, `SELECT sum(count) FROM connections`); n != a.stored+a.coalesced {
		t.Errorf("account: stored %d + coalesced %d, the rows count %d connects", a.stored, a.coalesced, n)
	}
	if n := number(t, dir, `SELECT sum(lost) FROM gaps`); n != a.lost+a.excluded {
		t.Errorf("account: lost and excluded say %d, the gaps say %d", a.lost+a.excluded, n)
	}
	view := rows(t, dir, `SELECT sum(seen) AS seen, sum(stored) AS stored, sum(coalesced) AS coalesced, sum(excluded) AS excluded, sum(lost) AS lost FROM segments`)[0]
	counters := want{"seen": a.seen, "stored": a.stored, "coalesced": a.coalesced, "excluded": a.excluded, "lost": a.lost}
	for c, v := range counters {
		if view[c] != v {
			t.Errorf("view segments says %s = %v, the tape %v", c, view[c], v)
		}
	}
}
