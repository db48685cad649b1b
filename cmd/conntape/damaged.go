package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
)

// damageMet is returned for an answer that found damaged segments.
type damageMet struct {
	error
	segments []store.LeftOut
	shown    bool // a part of the answer has been shown
}

// Unwrap returns the error beneath.
func (e *damageMet) Unwrap() error { return e.error }

// findDamage returns a *damageMet if the tape's reader found damage, or lost a segment in the middle of it, even without
// an error: rows read before may be wrong. Otherwise it returns err.
func findDamage(tape *store.Tape, err error) error {
	if errors.Is(err, ask.ErrTimeLimit) {
		return err
	}
	explained := tape.Explain(err)
	met := tape.Damage()
	if len(met) == 0 || err != nil && !errors.Is(explained, failure.ErrDamaged) && !errors.Is(explained, segment.ErrGone) {
		return explained
	}
	if explained == nil {
		explained = &failure.Error{Op: "read segment", Path: met[0].Path, Err: met[0].Err}
	}
	return &damageMet{error: explained, segments: met}
}

// leavingOut calls ask, and again without each damaged segment that ask finds.
func leavingOut(run func(damaged []store.LeftOut) error) error {
	var damaged []store.LeftOut
	for {
		err := run(damaged)
		var met *damageMet
		if !errors.As(err, &met) || met.shown {
			return err
		}
		damaged = append(damaged, met.segments...)
	}
}

// noDamage is findDamage for a question that is not repeated.
func noDamage(tape *store.Tape, err error) error {
	err = findDamage(tape, err)
	var met *damageMet
	if errors.As(err, &met) {
		return met.error
	}
	return err
}

// mostHeld is the size, in bytes, up to which an answer is held back until it is complete, so that it can start again
// without a damaged segment.
const mostHeld = 1 << 20

// held is a writer that holds back its first bytes.
type held struct {
	to    io.Writer
	bytes []byte
	shown bool // the limit was exceeded: everything is written
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

// show writes the bytes held back.
func (w *held) show() error {
	bytes := w.bytes
	w.bytes, w.shown = nil, true
	if len(bytes) == 0 {
		return nil
	}
	_, err := w.to.Write(bytes)
	return err
}

// writeHeld calls write with a writer to the stream. If write finds damage before anything is shown, it shows nothing.
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
