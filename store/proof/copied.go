package proof

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/conntape/conntape/store/tapedir"
)

// noteCopy says so when all that is wrong can also come of a copy that was made file by file while a recorder wrote: the
// log is then of another instant than the segment that was recorded, or pages of that are. It stays a problem, for the log
// does not tell such a copy from a segment that was rolled back.
func (v *tapeVerifier) noteCopy() error {
	if v.log == nil || v.out.Stopped || len(v.out.Problems) == 0 {
		return nil
	}
	if slices.ContainsFunc(v.out.Problems, func(p Problem) bool { return !v.mayBeCut(p.Segment) }) {
		return nil
	}
	if held, err := tapeHeld(v.dir); err != nil || held {
		return err
	}
	v.note(fmt.Sprintf("all that is wrong is in %s, which was being recorded when the log ended, or a little before: a copy that was made file by file in the middle of writing "+
		"looks like this, and so does a segment that was rolled back. Verify the original, or copy again after: conntape rotate",
		tapedir.SegmentName(v.out.Problems[0].Segment)))
	return nil
}

// mayBeCut reports whether a copy can have a segment as it was before the log ended: it is not sealed by that log, or was
// copied before it was, so that its file is still one that is written.
func (v *tapeVerifier) mayBeCut(number int) bool {
	if number == 0 {
		return false
	}
	if v.book.segments[number].sealLeaf() == nil {
		return true
	}
	path := filepath.Join(v.dir, tapedir.SegmentName(number))
	return tapedir.IsThere(path) && !tapedir.ClosedFile(path)
}
