// Package sqlitefile knows what SQLite's file format says of bytes, and what a sealed segment has behind its last page:
// a sum of each page.
//
// It knows pages, their sums, and how SQLite is made to check them too (a VFS). It does not know what a segment is, which
// tables it has or where its file lies in a tape. It writes nothing but the sums. Whatever bytes it is given, it returns
// an error that is ErrDamaged, and takes no more memory than the file is long.
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
