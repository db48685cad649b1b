// Package sqlitefile is the only reader of SQLite's file format: pages, b-trees of tables and indexes, rows with
// overflow pages, the WAL. It also reads and writes the page sums after the last page of a sealed segment.
//
// [Trees] reads a database that nobody writes. [Pages] reads a damaged one row by row, without SQLite. A VFS makes
// SQLite check the sums too. The package does not know what a segment is, its tables or its place in a tape. It writes
// only the sums. For any bytes it returns an error that is ErrDamaged, and uses no more memory than the file's length.
//
// Formats: https://sqlite.org/fileformat2.html; of the sums: docs/format.md.
package sqlitefile

import (
	"errors"
	"fmt"
)

// PageSize is the page size of a segment, in bytes. A database with another page size has no sums.
const PageSize = 4096

// ErrDamaged means that a file is not as it was written. All errors about damage match it.
var ErrDamaged = errors.New("damaged file")

// damage is an ErrDamaged with the place.
type damage struct{ what string }

func damaged(format string, args ...any) error { return &damage{fmt.Sprintf(format, args...)} }

// Error names the damage.
func (e *damage) Error() string { return e.what }

// Unwrap returns ErrDamaged.
func (e *damage) Unwrap() error { return ErrDamaged }
