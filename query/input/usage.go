// Package input reads what a user types: times, windows, sizes and words. It says what is wrong with it and what to type
// instead ([UsageError]).
//
// It knows nothing of tapes or SQL.
package input

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

// Usagef returns a UsageError with the hint and the formatted message.
func Usagef(hint, format string, args ...any) error {
	return &UsageError{Message: fmt.Sprintf(format, args...), Hint: hint}
}
