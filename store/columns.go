package store

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/migrations"
)

// The public schema is five views. Their columns are read from the text of the migrations, which has a column a line, or
// ends one so: SQLite would take 10 ms to tell them.

// publicViews are the public schema.
var publicViews = []string{"connections", "processes", "endpoints", "gaps", "segments"}

// ViewColumn is a column of a public view.
type ViewColumn struct {
	Name string
	Type string // INTEGER, TEXT or BLOB if it is the column of a table; "" if it is an expression
	SQL  string // over the tables of a segment, as the view names them
}

// ViewColumns returns the columns of a public view, in order; nil if there is none of that name.
func ViewColumns(view string) []ViewColumn {
	schema, err := expectedSchema(migrations.Version)
	if err != nil {
		return nil
	}
	_, body, found := strings.Cut(schema[view], " AS\nSELECT\n")
	end := strings.LastIndex(body, "\nFROM ")
	if !found || end < 0 {
		return nil
	}
	var columns []ViewColumn
	sql := ""
	for line := range strings.Lines(body[:end]) {
		sql += line
		begin, name, ends := cutLast(strings.TrimRight(sql, ",\n"), " AS ")
		if ends && !strings.ContainsAny(name, " \n()'") {
			columns = append(columns, ViewColumn{Name: name, SQL: strings.TrimSpace(begin), Type: typeOf(schema, body[end:], strings.TrimSpace(begin))})
			sql = ""
		}
	}
	return columns
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// typeOf returns the type of an expression: of one that is a column, or (SELECT column FROM table …), that of the column.
func typeOf(schema map[string]string, from, sql string) string {
	alias, column, _ := strings.Cut(sql, ".")
	words := strings.Fields(strings.ReplaceAll(from, ";", " "))
	at := slices.Index(words, alias)
	if selected := strings.Fields(strings.Trim(sql, "()")); len(selected) >= 4 && selected[0] == "SELECT" && selected[2] == "FROM" {
		words, at, column = selected, 4, selected[1][strings.LastIndex(selected[1], ".")+1:]
	}
	if at < 1 {
		return ""
	}
	for line := range strings.Lines(schema[words[at-1]]) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == column {
			return strings.TrimRight(words[1], ",")
		}
	}
	return ""
}

// Table makes a virtual table readable on the tape's connection under a name. Its columns are those of a public view: of
// the same types, and of the same affinity, so that whatever they are compared to gives what the view gives. A hidden
// column follows them, whose value must tell its rows apart. The table takes the place of one of the same name.
func (t *Tape) Table(name, view string, table sqlite.VTable) error {
	columns := ViewColumns(view)
	declaration := "CREATE TABLE x ("
	for _, c := range columns {
		declaration += c.Name + " " + c.Type + ", "
	}
	declaration += "row_key HIDDEN PRIMARY KEY) WITHOUT ROWID"
	var kept any // by the driver, with this function
	err := t.conn.SetModule(name, &sqlite.Module{Connect: func(*sqlite.Conn, *sqlite.VTableConnectOptions) (sqlite.VTable, *sqlite.VTableConfig, error) {
		runtime.KeepAlive(kept)
		return table, &sqlite.VTableConfig{Declaration: declaration}, nil
	}})
	var module *sqlite3.TModule
	if err == nil {
		module, err = connectedModule(t.conn, name)
	}
	if err == nil {
		kept = listsAtOnce((*sqlite3.Tsqlite3_module)(pointer(module.FpModule)))
		err = plainExpressions(module, columns)
	}
	if err != nil {
		return fmt.Errorf("make table %s: %w", name, err)
	}
	return nil
}

// plainExpressions gives the columns of a virtual table that have no type the affinity of an expression, which is none.
// A declaration cannot: it makes that BLOB, and SQLite does not compare a number of affinity BLOB to a TEXT column as it
// does one of none (https://sqlite.org/datatype3.html, 4.2). So WHERE remote_port = CAST('22' AS TEXT) found nothing. An
// expression over the table has none too, and SQLite does not tell the table what that is compared to. The structures
// are those of the version of SQLite that go.mod names; a test compares the answers with those of the view.
func plainExpressions(module *sqlite3.TModule, columns []ViewColumn) error {
	table := (*sqlite3.TTable)(pointer(module.FpEpoTab))
	if int(table.FnCol) != len(columns)+1 {
		return errDriver
	}
	declared := unsafe.Slice((*sqlite3.TColumn)(pointer(table.FaCol)), len(columns))
	for i, c := range columns {
		if c.Type == "" {
			declared[i].Faffinity = sqlite3.SQLITE_AFF_NONE
		}
	}
	return nil
}

// connectedModule connects the table of a module that is a table by itself, and returns SQLite's entry of the module.
func connectedModule(conn *sqlite.Conn, name string) (*sqlite3.TModule, error) {
	stmt, _, err := conn.PrepareTransient("SELECT 1 FROM " + name) // connects the table
	if err != nil {
		return nil, err
	}
	if err := stmt.Finalize(); err != nil {
		return nil, err
	}
	_, db, err := handleOf(conn)
	if err != nil {
		return nil, err
	}
	for at := (*sqlite3.Tsqlite3)(pointer(db)).FaModule.Ffirst; at != 0; {
		element := (*sqlite3.THashElem)(pointer(at))
		at = element.Fnext
		m := (*sqlite3.TModule)(pointer(element.Fdata))
		if m.FpEpoTab != 0 && libc.GoString(m.FzName) == name {
			return m, nil
		}
	}
	return nil, errDriver
}

// pointer returns an address in SQLite's memory, which does not move, as a pointer.
func pointer(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }
