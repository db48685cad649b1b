package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
)

// errBare ends the program after it showed help because no command was given. No message follows.
var errBare = &input.UsageError{}

// errFound ends a command that found what it looked for. No message follows.
var errFound = errors.New("found")

// errCut ends a command whose answer was cut by --timeout. No message follows: the answer said so.
var errCut = errors.New("cut")

// errDamaged ends a command whose answer lacks a damaged or removed segment. No message follows: the answer said so.
var errDamaged = errors.New("damaged")

// usagef returns an error that ends the program with exitUsage.
func usagef(hint, format string, args ...any) error {
	return &input.UsageError{Message: fmt.Sprintf(format, args...), Hint: hint}
}

// report writes an error to stderr, in one line and perhaps a second with a hint, and returns the exit code. A closed
// stdout is no error.
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
	case errors.Is(err, input.ErrUsage):
		return exitUsage
	case errors.Is(err, failure.ErrDamaged):
		return exitDamaged
	case errors.Is(err, ask.ErrTimeLimit):
		return exitCut
	}
	return exitFailed
}

// hintOf returns an error's hint, "" for none.
func hintOf(err error) string {
	var hinted interface{ HintText() string }
	if errors.As(err, &hinted) {
		return hinted.HintText()
	}
	return failure.HintOf(err)
}

// oneLine makes a message safe to show, in one line: it may contain file names or SQL.
func oneLine(message string) string {
	return escape.Safe(strings.Join(strings.FieldsFunc(message, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}

// hintedError is an error with a hint; it ends with exitFailed.
type hintedError struct {
	error
	hint string
}

// Unwrap returns the error beneath.
func (e *hintedError) Unwrap() error { return e.error }

// HintText returns the hint.
func (e *hintedError) HintText() string { return e.hint }
