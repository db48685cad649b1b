package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/failure"
)

// damageMet is the error of an answer during which damaged segments were met.
type damageMet struct {
	error
	segments []store.LeftOut
	shown    bool // a part of the answer has been shown
}

// Unwrap returns the error beneath.
func (e *damageMet) Unwrap() error { return e.error }

// findDamage returns a *damageMet if damage was met in a tape, whether a question ended with an error or not: rows that
// were read before may be wrong. Another error is returned as it is.
func findDamage(tape *store.Tape, err error) error {
	if errors.Is(err, query.ErrTimeLimit) {
		return err
	}
	explained := tape.Explain(err)
	met := tape.Damage()
	if len(met) == 0 || err != nil && !errors.Is(explained, failure.ErrDamaged) {
		return explained
	}
	if explained == nil {
		explained = &failure.Error{Op: "read segment", Path: met[0].Path, Err: met[0].Err}
	}
	return &damageMet{error: explained, segments: met}
}

// leavingOut calls ask with all segments. When ask finds a damaged segment, it calls ask again without that one.
func leavingOut(ask func(damaged []store.LeftOut) error) error {
	var damaged []store.LeftOut
	for {
		err := ask(damaged)
		var met *damageMet
		if !errors.As(err, &met) || met.shown {
			return err
		}
		damaged = append(damaged, met.segments...)
	}
}

// noDamage is findDamage for a tape that is not opened again.
func noDamage(tape *store.Tape, err error) error {
	err = findDamage(tape, err)
	var met *damageMet
	if errors.As(err, &met) {
		return met.error
	}
	return err
}

// mostHeld is how many bytes of an answer are held back until it is whole, so that it can be begun again without a segment
// that turns out to be damaged.
const mostHeld = 1 << 20

// held is a writer that holds back what it is given.
type held struct {
	to    io.Writer
	bytes []byte
	shown bool // there was more
}

// Write takes the next bytes.
func (w *held) Write(p []byte) (int, error) {
	if !w.shown && len(w.bytes)+len(p) <= mostHeld {
		w.bytes = append(w.bytes, p...)
		return len(p), nil
	}
	if err := w.show(); err != nil {
		return 0, err
	}
	return w.to.Write(p)
}

// show writes what was held back.
func (w *held) show() error {
	bytes := w.bytes
	w.bytes, w.shown = nil, true
	if len(bytes) == 0 {
		return nil
	}
	_, err := w.to.Write(bytes)
	return err
}

// writeHeld has write write to a stream. If it meets damage before anything is shown, nothing is.
func writeHeld(to io.Writer, write func(io.Writer) error) error {
	out := &held{to: to}
	err := write(out)
	var met *damageMet
	if errors.As(err, &met) {
		if met.shown = out.shown; met.shown {
			met.error = fmt.Errorf("the answer ends here, and what was shown of it may be wrong: %w", met.error)
		}
		return err
	}
	return errors.Join(err, out.show())
}
