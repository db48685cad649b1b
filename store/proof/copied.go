package proof

import (
	"fmt"
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
	elsewhere := func(p Problem) bool { return p.Segment == 0 || v.book.segments[p.Segment].sealLeaf() != nil }
	if slices.ContainsFunc(v.out.Problems, elsewhere) {
		return nil
	}
	if held, err := tapeHeld(v.dir); err != nil || held {
		return err
	}
	v.note(fmt.Sprintf("all that is wrong is in %s, which was being recorded where the log ends: a copy that was made file by file in the middle of writing "+
		"looks like this, and so does a segment that was rolled back. Verify the original, or copy again after: conntape rotate",
		tapedir.SegmentName(v.out.Problems[0].Segment)))
	return nil
}
