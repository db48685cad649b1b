package store

import (
	"errors"

	"zombiezen.com/go/sqlite"
)

// Tape is a tape opened for reading. Not safe for concurrent use.
type Tape struct{}

// OpenTape opens a tape directory, or one segment file, for reading.
func OpenTape(path string) (*Tape, error) { return nil, errors.ErrUnsupported }

// Conn returns the read-only connection with the public views.
func (t *Tape) Conn() *sqlite.Conn { return nil }

// Segments describes the attached segments, oldest first.
func (t *Tape) Segments() []SegmentInfo { return nil }

// Coverage says what the tape covers.
func (t *Tape) Coverage() (Coverage, error) { return Coverage{}, errors.ErrUnsupported }

// Close closes the connection and removes private copies.
func (t *Tape) Close() error { return nil }
