package store

import (
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/sqlitefile"
)

// Error is what the store returns: what it was doing, on which file, why it
// did not work, and what a person can do about it.
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

// storageFault reports whether err says that the file, rather than what was
// asked of it, is at fault: an I/O error, a full disk, corruption, a lock that
// somebody took, a file system gone read-only. Such a file is not used again.
func storageFault(err error) bool {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultIOErr, sqlite.ResultFull, sqlite.ResultCorrupt, sqlite.ResultNotADB,
		sqlite.ResultReadOnly, sqlite.ResultCantOpen, sqlite.ResultBusy, sqlite.ResultLocked,
		sqlite.ResultProtocol, sqlite.ResultPerm, sqlite.ResultFormat, sqlite.ResultNotFound:
		return true
	}
	return false
}

// classify adds ErrNotSegment or ErrDamaged to what SQLite says of a file that
// is none, or a broken one.
func classify(err error) error {
	switch {
	case errors.Is(err, ErrDamaged):
		return err
	case errors.Is(err, sqlitefile.ErrDamaged):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultNotADB:
		return fmt.Errorf("%w: %w", ErrNotSegment, err)
	case sqlite.ResultCorrupt:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// explainDamage puts what a watch found in the place of SQLite's word that a file is corrupt.
func explainDamage(err error, watch *sqlitefile.Watch) error {
	if found := watch.Damage(); len(found) > 0 && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultCorrupt {
		return fmt.Errorf("%w: %w", ErrDamaged, found[0].Err)
	}
	return err
}

// isDamaged reports whether err says that what is in a file cannot be what was
// written, rather than that it cannot be read.
func isDamaged(err error) bool {
	err = classify(err)
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotSegment)
}
