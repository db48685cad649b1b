package segment

import (
	"errors"
	"fmt"
	"reflect"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"
)

var ErrDriver = errors.New("the SQLite driver is not the one that this was written for")

// Defend forbids SQL to damage the file by PRAGMA writable_schema, shadow tables or sqlite_dbpage (sqlite3_db_config,
// SQLITE_DBCONFIG_DEFENSIVE).
//
// Do not use Conn.SetDefensive of v1.4.2: it passes only the first of two arguments. SQLite takes the next bytes in
// memory for the second, a pointer, and writes there. That damages the allocator's list, and the program crashes much
// later.
func Defend(conn *sqlite.Conn) error {
	thread, db, err := HandleOf(conn)
	if err != nil {
		return fmt.Errorf("set defensive mode: %w", err)
	}
	args := libc.NewVaList(int32(1), uintptr(0)) // on; no pointer for the old value
	if args == 0 {
		return fmt.Errorf("set defensive mode: %w", sqlite.ResultNoMem.ToError())
	}
	defer libc.Xfree(thread, args)
	code := sqlite3.Xsqlite3_db_config(thread, db, sqlite3.SQLITE_DBCONFIG_DEFENSIVE, args)
	if code != sqlite3.SQLITE_OK {
		return fmt.Errorf("set defensive mode: %w", sqlite.ResultCode(code).ToError())
	}
	return nil
}

// HandleOf returns the libc thread and handle of a connection, which the driver does not export.
func HandleOf(conn *sqlite.Conn) (thread *libc.TLS, db uintptr, err error) {
	v := reflect.ValueOf(conn).Elem()
	tls, handle := v.FieldByName("tls"), v.FieldByName("conn")
	if !tls.IsValid() || tls.Type() != reflect.TypeFor[*libc.TLS]() || !handle.IsValid() || handle.Kind() != reflect.Uintptr {
		return nil, 0, ErrDriver
	}
	return (*libc.TLS)(tls.UnsafePointer()), uintptr(handle.Uint()), nil
}

// Interrupted reports whether the caller of a connection has given up.
func Interrupted(conn *sqlite.Conn) bool {
	thread, db, err := HandleOf(conn)
	return err == nil && sqlite3.Xsqlite3_is_interrupted(thread, db) != 0
}
