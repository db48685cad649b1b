package proof

import (
	"fmt"
	"maps"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// checkLosses compares the lost and excluded connections in a segment's gaps with those counted while it was active: each loss
// is in one gap of one segment.
func (s *segmentVerifier) checkLosses(conn *sqlite.Conn) error {
	var told int64
	err := segment.Exec(conn, func(q *sqlite.Stmt) error { told = q.ColumnInt64(0); return nil }, `SELECT coalesce(sum(lost), 0) FROM gap`)
	if err != nil || s.book != nil && s.book.aside {
		return err
	}
	var lost, recovered int64
	counted := false
	for _, r := range s.seg.Runs {
		counted = counted || len(r.Counters()) > 0
		lost += r.Counters()["lost"].Since() + r.Counters()["excluded"].Since()
		recovered += r.Counters()["recovered"].Value
	}
	switch {
	case !counted: // killed before the first batch
	case told > lost+recovered:
		s.fail(s.rightUntil(), "its gaps tell of %d lost connections, and %d were counted: a loss is told more than once", told, lost)
	case told < lost:
		s.fail(s.rightUntil(), "%d connections were counted as lost, and its gaps tell of %d", lost, told)
	}
	return nil
}

// continued checks that a run which continues in the next segment has one account: its counters in b begin with their
// values at the end of a.
func (v *tapeVerifier) continued(a, b *segmentVerifier) {
	if len(a.seg.Runs) == 0 || len(b.seg.Runs) == 0 || a.book != nil && a.book.aside || a.book.salvaged() || b.book.salvaged() {
		return
	}
	last, first := &a.seg.Runs[len(a.seg.Runs)-1], &b.seg.Runs[0]
	if !last.Same(first) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(last.Counters())) {
		if is, was := first.Counters()[name].First, last.Counters()[name].Value; is != was {
			v.out.Problems = append(v.out.Problems, Problem{Segment: b.number, File: tapedir.SegmentName(b.number), Since: b.rightUntil(),
				What: fmt.Sprintf("the recorder's counter %s was %d at the end of %s, and begins here with %d", escape.Bytes([]byte(name)), was, tapedir.SegmentName(a.number), is)})
			return
		}
	}
}
