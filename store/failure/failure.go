package failure

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/sqlitefile"
)

// Error is the store's error: operation, file, cause, and a hint for the user.
type Error struct {
	Op   string // verb and noun, lower case: "open segment"
	Path string // file or directory, may be ""
	Err  error
	Hint string // one sentence, may be ""
}

// Error returns "op path: cause".
func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Causes that callers tell apart with errors.Is.
var (
	// ErrLocked: another recorder holds the tape.
	ErrLocked = errors.New("the tape is being recorded")
	// ErrNoTape: there is no tape at that path.
	ErrNoTape = errors.New("no tape here")
	// ErrNotSegment: the file is not a segment of conntape.
	ErrNotSegment = errors.New("not a conntape segment")
	// ErrIncompatible: the segment needs a newer conntape.
	ErrIncompatible = errors.New("made by a newer conntape")
	// ErrDamaged: the segment is corrupt or half written.
	ErrDamaged = errors.New("damaged segment")
	// ErrClosed: the writer or the tape was closed.
	ErrClosed = errors.New("already closed")
)

// HintOf returns the hint of the first *Error in err's chain that has one.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// Classify adds ErrNotSegment or ErrDamaged to SQLite's error for a file that is no database or a broken one.
func Classify(err error) error {
	switch {
	case errors.Is(err, ErrDamaged):
		return err
	case errors.Is(err, sqlitefile.ErrDamaged):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultNotADB: // whatever SQLite was about to do with it
		return fmt.Errorf("%w: it is no SQLite file", ErrNotSegment)
	case sqlite.ResultCorrupt:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// ExplainDamage replaces SQLite's error for a corrupt file by the damage that the watch found.
func ExplainDamage(err error, watch *sqlitefile.Watch) error {
	if found := watch.Damage(); len(found) > 0 && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultCorrupt {
		return fmt.Errorf("%w: %w", ErrDamaged, found[0].Err)
	}
	return err
}

// IsDamaged reports whether err means wrong content of a file, and not a failed read.
func IsDamaged(err error) bool {
	err = Classify(err)
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotSegment)
}

// Group is the group whose members may read a tape.
const Group = "conntape"

// HintFor returns the hint for an error on opening.
func HintFor(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "read it as root, or as a member of the group " + Group
	case errors.Is(err, ErrIncompatible):
		return "read it with the conntape that made it, or a newer one"
	case errors.Is(err, ErrNotSegment):
		return "name a tape directory or one of its .db files"
	case errors.Is(err, ErrManifest):
		return "see what conntape verify says; without the file manifest answers are slower and right"
	case errors.Is(err, ErrDamaged):
		return "conntape salvage FILE reads what can be read of it; the other segments can be read as ever"
	case errors.Is(err, fs.ErrNotExist):
		return "it was removed meanwhile; try again"
	case errors.Is(err, ErrMoved):
		return "it is written faster than it can be copied; set TMPDIR to a faster disk, or try again"
	}
	switch code := sqlite.ErrCode(err).ToPrimary(); {
	case code == sqlite.ResultFull, strings.Contains(err.Error(), "no space left"):
		return CopyHint
	}
	return ""
}

const CopyHint = "the segment that is being recorded is read from a copy: set TMPDIR to a directory with room for it"

// ErrMoved means that the file changed in a way that makes the copy useless.
var ErrMoved = errors.New("segment changed while it was copied")

// ErrManifest means that the manifest contradicts a segment.
var ErrManifest = errors.New("the manifest is false about it, so that answers may lack rows")

// Bare strips the path from an error of package os; Error has it already.
func Bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
