package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/store/failure"
)

// errBare is what the program ends with when it was given no command: its help
// has been shown, and nothing more is said.
var errBare = &query.UsageError{}

// errFound is what a command ends with when it found what it was to look for. What
// it found has been written, and nothing more is said.
var errFound = errors.New("found")

// errCut is what a command ends with when --timeout cut its answer. That was said
// with the answer, and nothing more is said.
var errCut = errors.New("cut")

// errDamaged is what a command ends with when damage to the tape, or the removal of a segment meanwhile, left a part of the
// answer out. That was said with the answer, and nothing more is said.
var errDamaged = errors.New("damaged")

// usagef returns an error that ends the program with exitUsage.
func usagef(hint, format string, args ...any) error {
	return &query.UsageError{Message: fmt.Sprintf(format, args...), Hint: hint}
}

// report writes an error to stderr, in one line and perhaps one more with a
// hint, and returns the exit code. Nothing is wrong when whoever read the answer
// has gone away.
func (h *host) report(err error) int {
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return exitDone
	case err == errBare:
		return exitUsage
	case errors.Is(err, errDamaged):
		return exitDamaged
	case errors.Is(err, errCut):
		return exitCut
	case errors.Is(err, errFound):
		return exitFound
	}
	fmt.Fprintf(h.stderr, "conntape: error: %s\n", oneLine(err.Error()))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(h.stderr, "conntape: hint: %s\n", oneLine(hint))
	}
	switch {
	case errors.Is(err, query.ErrUsage):
		return exitUsage
	case errors.Is(err, failure.ErrDamaged):
		return exitDamaged
	case errors.Is(err, query.ErrTimeLimit):
		return exitCut
	}
	return exitFailed
}

// hintOf returns the advice that comes with an error, "" when there is none.
func hintOf(err error) string {
	var hinted interface{ HintText() string }
	if errors.As(err, &hinted) {
		return hinted.HintText()
	}
	return failure.HintOf(err)
}

// oneLine returns a message as one line that is safe to show, whatever names of
// files or pieces of SQL are part of it.
func oneLine(message string) string {
	return query.Safe(strings.Join(strings.FieldsFunc(message, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}

// hintedError is an error with advice, of the kind that ends with exitFailed.
type hintedError struct {
	error
	hint string
}

// Unwrap returns the error beneath.
func (e *hintedError) Unwrap() error { return e.error }

// HintText returns the advice.
func (e *hintedError) HintText() string { return e.hint }
