// Package sqlitefile is the one reader of SQLite's file format: pages, b-trees of tables and of indexes, rows and what of
// them is on pages of their own, the WAL; and of the sums of its pages that a sealed segment has behind its last page.
//
// A database that nobody writes is read by [Trees]; one that SQLite will not read, row by row, by [Pages]; and a VFS has
// SQLite check the sums too. The package does not know what a segment is, which tables it has or where its file lies in a
// tape. It writes nothing but the sums. Whatever bytes it is given, it returns an error that is ErrDamaged, and takes no
// more memory than the file is long.
//
// Format: https://sqlite.org/fileformat2.html; of the sums: docs/format.md.
package sqlitefile

import (
	"errors"
	"fmt"
)

// PageSize is the length of a page of a segment, in bytes. A database with pages of another length has no sums.
const PageSize = 4096

// ErrDamaged says that a file is not what was written. Each error that says so is this one for errors.Is.
var ErrDamaged = errors.New("damaged file")

// damage is an ErrDamaged that says what is damaged.
type damage struct{ what string }

func damaged(format string, args ...any) error { return &damage{fmt.Sprintf(format, args...)} }

// Error says what is damaged.
func (e *damage) Error() string { return e.what }

// Unwrap returns ErrDamaged.
func (e *damage) Unwrap() error { return ErrDamaged }
