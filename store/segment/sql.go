package segment

import (
	"fmt"
	"math"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
)

// Helpers for statements that are not on the hot path.

// Exec runs one statement with arguments of type nil, int, int64, uint64,
// bool, string or []byte. Rows go to row, which may be nil.
func Exec(conn *sqlite.Conn, row func(*sqlite.Stmt) error, query string, args ...any) error {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return err
	}
	for i, arg := range args {
		if err := Bind(stmt, i+1, arg); err != nil {
			return err
		}
	}
	for {
		more, err := stmt.Step()
		if err != nil {
			return err // Step has reset it
		}
		if !more {
			return stmt.Reset()
		}
		if row != nil {
			if err := row(stmt); err != nil {
				stmt.Reset()
				return err
			}
		}
	}
}

func Bind(stmt *sqlite.Stmt, i int, arg any) error {
	switch v := arg.(type) {
	case nil:
		stmt.BindNull(i)
	case int:
		stmt.BindInt64(i, int64(v))
	case int64:
		stmt.BindInt64(i, v)
	case uint32:
		stmt.BindInt64(i, int64(v))
	case uint64:
		stmt.BindInt64(i, ClampInt64(v))
	case bool:
		stmt.BindBool(i, v)
	case string:
		stmt.BindText(i, v)
	case []byte:
		stmt.BindBytes(i, v)
	default:
		return fmt.Errorf("bind argument %d: type %T", i, arg)
	}
	return nil
}

// ClampInt64 returns v, or the largest integer that SQLite holds.
func ClampInt64(v uint64) int64 { return int64(min(v, math.MaxInt64)) }

// TextOrNull returns s escaped, or NULL for "".
func TextOrNull(s string) any {
	if s == "" {
		return nil
	}
	return escape.String(s, nil)
}

// NumberOrNull returns v, or NULL for 0.
func NumberOrNull[T uint32 | uint64](v T) any {
	if v == 0 {
		return nil
	}
	return uint64(v)
}

// SetOrNull returns v, or NULL for a negative one.
func SetOrNull[T int32 | int64](v T) any {
	if v < 0 {
		return nil
	}
	return int64(v)
}

// BlobOrNull returns b, or NULL for none.
func BlobOrNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// Quoted returns text for use between single quotes.
func Quoted(text string) string { return strings.ReplaceAll(text, "'", "''") }

// Run steps a statement that returns no rows, and resets it. It keeps the bound values.
func Run(stmt *sqlite.Stmt) error {
	if _, err := stmt.Step(); err != nil {
		return err
	}
	return stmt.Reset()
}
