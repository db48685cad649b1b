package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// Damage returns the segments found damaged since the tape was opened, with the page if known. Answers since then may
// lack their rows, or be wrong. Open the tape again without them for a correct answer. A segment that retention removed,
// and whose room it needed before the reader had finished, is among them: its error is [segment.ErrGone].
func (t *Tape) Damage() []LeftOut {
	var met []LeftOut
	for _, seg := range t.segs {
		for _, d := range seg.Watch.Damage() {
			err := failure.Classify(d.Err)
			switch {
			case !seg.Info.Snapshot && !tapedir.IsThere(seg.File):
				err = fmt.Errorf("%w: %s", segment.ErrGone, filepath.Base(seg.Info.Path))
			case !errors.Is(err, failure.ErrDamaged):
				err = fmt.Errorf("%w: %w", failure.ErrDamaged, err)
			}
			met = append(met, LeftOut{Path: seg.Info.Path, Err: err})
		}
	}
	return met
}

// LookAtFiles looks at the file of each sealed segment, and opens those that were changed since they were described: an answer that does not
// touch them would not notice. The error is of the first that cannot be read.
func (t *Tape) LookAtFiles() error {
	for place, seg := range t.segs {
		if info, err := os.Lstat(seg.File); seg.Info.Snapshot || err == nil && seg.IsUnchanged(info) {
			continue
		}
		switch err := t.Use(place, func(*sqlite.Conn) error { return nil }); {
		case errors.Is(err, fs.ErrPermission):
			t.leave(seg, failure.Bare(err))
		case err != nil && !errors.Is(err, segment.ErrGone):
			return err
		}
	}
	return nil
}

// Explain turns a query's error into one for the user if a segment is damaged or the SQL is no query. It returns other
// errors unchanged.
func (t *Tape) Explain(err error) error {
	if err == nil || sqlite.ErrCode(err).ToPrimary() == sqlite.ResultInterrupt {
		return err
	}
	if met := t.Damage(); len(met) > 0 {
		return &failure.Error{Op: "read segment", Path: met[0].Path, Err: met[0].Err, Hint: hintFor(met[0].Err)}
	}
	path := filepath.Join(t.dir, t.single)
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB, sqlite.ResultIOErr:
		return &failure.Error{Op: "read tape", Path: path, Err: fmt.Errorf("%w: %w", failure.ErrDamaged, err), Hint: failure.HintFor(failure.ErrDamaged)}
	case sqlite.ResultAuth:
		return &failure.Error{Op: "query tape", Path: path, Err: err, Hint: "only SELECT is allowed: a tape cannot be changed"}
	}
	return err
}

// hintFor is failure.HintFor, for a segment that was removed too.
func hintFor(err error) string {
	if errors.Is(err, segment.ErrGone) {
		return "retention needed its room: ask again, or record with a larger --max-size"
	}
	return failure.HintFor(err)
}

// without removes known damaged segments from the files to read.
func (t *Tape) without(files []segment.File, damaged []LeftOut) ([]segment.File, error) {
	t.leftOut = append(t.leftOut, damaged...)
	files = slices.DeleteFunc(files, func(f segment.File) bool {
		return slices.ContainsFunc(damaged, func(l LeftOut) bool { return l.Path == f.Path })
	})
	if len(files) == 0 {
		return nil, &failure.Error{Op: "open segment", Path: damaged[0].Path, Err: damaged[0].Err, Hint: failure.HintFor(damaged[0].Err)}
	}
	return files, nil
}

// AnyLost reports whether a segment was left out because it is damaged or was removed during reading.
func AnyLost(left []LeftOut) bool {
	return slices.ContainsFunc(left, func(l LeftOut) bool {
		return errors.Is(l.Err, failure.ErrDamaged) || errors.Is(l.Err, failure.ErrNotSegment) || errors.Is(l.Err, segment.ErrGone)
	})
}
