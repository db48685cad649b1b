package proof

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/conntape/conntape/store/tapedir"
)

// noteCopy adds a note if all problems could also come from copying the tape file by file during recording: then log and
// open segment, or parts of the segment, are of different instants. They stay problems, because the log cannot tell such
// a copy from a rolled-back segment.
func (v *tapeVerifier) noteCopy() error {
	if v.log == nil || v.out.Stopped || len(v.out.Problems) == 0 {
		return nil
	}
	if slices.ContainsFunc(v.out.Problems, func(p Problem) bool { return !v.mayBeCut(p.Segment) }) {
		return nil
	}
	if held, err := tapeHeld(v.at); err != nil || held {
		return err
	}
	v.note(fmt.Sprintf("all that is wrong is in %s, which was being recorded when the log ended, or a little before: a copy that was made file by file in the middle of writing "+
		"looks like this, and so does a segment that was rolled back. Verify the original, or copy again after: conntape rotate",
		tapedir.SegmentName(v.out.Problems[0].Segment)))
	return nil
}

// mayBeCut reports whether a copy can have an older state of this segment than the log: the log has not sealed it, or
// the copy is from before sealing and still writable.
func (v *tapeVerifier) mayBeCut(number int) bool {
	if number == 0 {
		return false
	}
	if v.book.segments[number].sealLeaf() == nil {
		return true
	}
	path := filepath.Join(v.at, tapedir.SegmentName(number))
	return tapedir.IsThere(path) && !tapedir.ClosedFile(path)
}
