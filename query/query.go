// Package query asks a tape questions and writes down the answers: canned
// queries, ad-hoc SQL, the reading of times, and the output formats.
//
// It knows the public views of package store, and never opens a file itself: whoever
// calls it hands it an open tape and somewhere to write. What it writes is safe to
// show on a terminal whatever the tape holds.
//
// A canned query means what its SQL over the views says. For speed alone some are
// narrowed (narrow.go) or counted otherwise (plan.go and the files that it names); only
// those know the tables beneath the views, and the answer is the same.
package query

import (
	"errors"
	"fmt"
)

// ErrUsage marks an error that is the asker's: a time that cannot be read, SQL
// that does not parse, a parameter without a value. The command line ends with
// exit code 2 on it, and with 1 on every other.
var ErrUsage = errors.New("wrong usage")

// UsageError says what was wrong with a question and, in Hint, what a right one
// looks like.
type UsageError struct {
	Message string // what is wrong, lower case, without a full stop
	Hint    string // what to type instead; "" when there is nothing to add
}

// Error returns the message.
func (e *UsageError) Error() string { return e.Message }

// Is reports that every UsageError is ErrUsage.
func (e *UsageError) Is(target error) bool { return target == ErrUsage }

// HintText returns the advice that goes with the error.
func (e *UsageError) HintText() string { return e.Hint }

// usagef returns a UsageError with the hint and the formatted message.
func usagef(hint, format string, args ...any) error {
	return &UsageError{Message: fmt.Sprintf(format, args...), Hint: hint}
}
