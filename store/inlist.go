package store

import (
	"reflect"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"
)

// For column IN (…) SQLite calls a virtual table once per value, and compares the column only with this value. This
// loses the affinity of the right side, so that a number in an expression column was not found in a list of texts. A
// table that takes the whole list (https://sqlite.org/c3ref/vtab_in.html) is read once, and SQLite evaluates IN itself.
// The driver exports neither the call nor the list.

// listsAtOnce makes a module take IN as one list. Keep the result as long as the module.
func listsAtOnce(module *sqlite3.Tsqlite3_module) (keep any) {
	type bestIndex = func(tls *libc.TLS, table, info uintptr) int32
	next := module.FxBestIndex // a pointer to a Go function, as the driver makes them
	driver := *(*bestIndex)(unsafe.Pointer(&next))
	atOnce := bestIndex(func(tls *libc.TLS, table, info uintptr) int32 {
		for i := range (*sqlite3.Tsqlite3_index_info)(pointer(info)).FnConstraint {
			sqlite3.Xsqlite3_vtab_in(tls, info, i, 1) // no effect on other constraints
		}
		return driver(tls, table, info)
	})
	module.FxBestIndex = *(*uintptr)(unsafe.Pointer(&atOnce))
	return atOnce
}

// InList returns the values of IN, and false if v is the value of another operator. Call it in Filter of a table by
// Tape.Table, with Filter's arguments.
func InList(v sqlite.Value) ([]sqlite.Value, bool) {
	if v.Type() != sqlite.TypeNull {
		return nil, false // to Go a list looks like NULL
	}
	tls, at := reflect.ValueOf(v).FieldByName("tls"), reflect.ValueOf(v).FieldByName("ptrOrType")
	if !tls.IsValid() || tls.Type() != reflect.TypeFor[*libc.TLS]() || !at.IsValid() || at.Kind() != reflect.Uintptr {
		return nil, false
	}
	thread := (*libc.TLS)(tls.UnsafePointer())
	out := thread.Alloc(int(unsafe.Sizeof(uintptr(0))))
	defer thread.Free(int(unsafe.Sizeof(uintptr(0))))
	list := []sqlite.Value{}
	code := sqlite3.Xsqlite3_vtab_in_first(thread, uintptr(at.Uint()), out)
	for ; code == sqlite3.SQLITE_OK; code = sqlite3.Xsqlite3_vtab_in_next(thread, uintptr(at.Uint()), out) {
		list = append(list, copyValue(thread, *(*uintptr)(pointer(out))))
	}
	return list, code == sqlite3.SQLITE_DONE
}

// copyValue copies a value so that it outlives SQLite's.
func copyValue(tls *libc.TLS, value uintptr) sqlite.Value {
	switch kind := sqlite3.Xsqlite3_value_type(tls, value); kind {
	case sqlite3.SQLITE_INTEGER:
		return sqlite.IntegerValue(sqlite3.Xsqlite3_value_int64(tls, value))
	case sqlite3.SQLITE_FLOAT:
		return sqlite.FloatValue(sqlite3.Xsqlite3_value_double(tls, value))
	case sqlite3.SQLITE_TEXT, sqlite3.SQLITE_BLOB:
		at := sqlite3.Xsqlite3_value_blob(tls, value)
		bytes := libc.GoBytes(at, int(sqlite3.Xsqlite3_value_bytes(tls, value)))
		if kind == sqlite3.SQLITE_TEXT {
			return sqlite.TextValue(string(bytes))
		}
		return sqlite.BlobValue(append([]byte{}, bytes...))
	}
	return sqlite.Value{}
}
