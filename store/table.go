package store

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// Table makes a virtual table readable on the tape's connection under a name. Its columns are those of a public view: of
// the same types, and of the same affinity, so that whatever they are compared to gives what the view gives. A hidden
// column follows them, whose value must tell its rows apart. The table takes the place of one of the same name.
func (t *Tape) Table(name, view string, table sqlite.VTable) error {
	return t.TableOf(name, segment.ViewColumns(view), nil, table)
}

// TableOf is Table of any columns. Those that are hidden follow the others: they are no part of SELECT *.
func (t *Tape) TableOf(name string, columns, hidden []segment.ViewColumn, table sqlite.VTable) error {
	declaration := "CREATE TABLE x ("
	for _, c := range columns {
		declaration += c.Name + " " + c.Type + ", "
	}
	for _, c := range hidden {
		declaration += c.Name + " " + c.Type + " HIDDEN, "
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
		err = plainExpressions(module, slices.Concat(columns, hidden))
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
func plainExpressions(module *sqlite3.TModule, columns []segment.ViewColumn) error {
	table := (*sqlite3.TTable)(pointer(module.FpEpoTab))
	if int(table.FnCol) != len(columns)+1 {
		return segment.ErrDriver
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
	_, db, err := segment.HandleOf(conn)
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
	return nil, segment.ErrDriver
}

// pointer returns an address in SQLite's memory, which does not move, as a pointer.
func pointer(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }
