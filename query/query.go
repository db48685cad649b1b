// Package query asks a tape questions and writes the answers: canned queries, SQL, times, and output formats.
//
// It knows the public views of package store, and never opens a file: the caller passes an open tape and a writer. Its
// output is safe to show on a terminal, whatever the tape has.
//
// The SQL of a canned query over the views defines its meaning. Some are answered faster by push-down (narrow.go) or by
// a plan (plan.go); only these know the tables under the views, and give the same answer.
package query

import (
	"errors"
	"fmt"
)

// ErrUsage marks the user's mistakes: an unreadable time, invalid SQL, a parameter without a value. The command line
// exits with 2 for it, and with 1 for other errors.
var ErrUsage = errors.New("wrong usage")

// UsageError says what is wrong with a question and, in Hint, how to write it.
type UsageError struct {
	Message string // what is wrong, lower case, without a full stop
	Hint    string // what to type instead; may be ""
}

// Error returns the message.
func (e *UsageError) Error() string { return e.Message }

// Is reports that every UsageError is ErrUsage.
func (e *UsageError) Is(target error) bool { return target == ErrUsage }

// HintText returns the hint.
func (e *UsageError) HintText() string { return e.Hint }

// usagef returns a UsageError with the hint and the formatted message.
func usagef(hint, format string, args ...any) error {
	return &UsageError{Message: fmt.Sprintf(format, args...), Hint: hint}
}
