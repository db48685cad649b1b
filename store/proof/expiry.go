package proof

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// forcedExpiry is the removal of a segment because the disk was full. The next committed batch has a gap for it.
type forcedExpiry struct {
	leaf      tapelog.Leaf
	batches   int64 // of the segment active then
	active    int   // number of that segment
	confirmed bool  // a batch was committed afterwards
}

// expire records a removal and checks that retention had a reason for it.
func (b *logBook) expire(s *loggedSegment, l tapelog.Leaf) {
	if s.expired { // repeated
		return
	}
	if len(s.seals) > 0 && (l.Rows != s.seals[0].Rows || l.Connects != s.seals[0].Connects) {
		b.problem(l, fmt.Sprintf("the log says that %d connections were removed with it, and that %d were sealed", l.Connects, s.seals[0].Connects))
	}
	e := Expiry{Segment: l.Segment, Connects: l.Connects, At: segment.WallTime(l.Real), Why: l.Cause, Bytes: l.Size, From: segment.WallTime(l.From), To: segment.WallTime(l.To)}
	if l.SHA256 != (tapelog.Hash{}) {
		e.SHA256 = hex.EncodeToString(l.SHA256[:])
	}
	b.expired = append(b.expired, e)
	for n, other := range b.segments {
		if n < l.Segment && !other.expired {
			b.problem(l, fmt.Sprintf("the log claims that retention removed it while the older %s was still there: retention removes the oldest first", tapedir.SegmentName(n)))
			break
		}
	}
	if len(s.seals) > 0 && l.SHA256 != (tapelog.Hash{}) && l.SHA256 != s.seals[0].SHA256 {
		b.problem(l, "what was removed is not what was sealed: the hashes differ")
	}
	if what := b.unasked(l); what != "" {
		b.problem(l, "the log claims that retention removed it "+what)
	}
	s.expired = true
	if l.Cause == tapelog.ExpiredFull {
		f := forcedExpiry{leaf: l}
		if n := len(b.turns); n > 0 {
			f.active = b.turns[n-1].segment
			if points := b.segments[f.active].points; len(points) > 0 {
				f.batches = points[len(points)-1].batches
			}
		}
		f.batches = max(f.batches, l.Batches) // commits since the last checkpoint were before the removal
		b.forced = append(b.forced, f)
	}
}

// expirySlack limits the difference between the clocks of retention and of the log.
const expirySlack = int64(time.Minute)

// unasked returns the reason for doubting a removal, "" if retention had to remove the segment.
func (b *logBook) unasked(l tapelog.Leaf) string {
	var start tapelog.Leaf
	if len(b.starts) > 0 {
		start = b.starts[len(b.starts)-1]
	}
	switch l.Cause {
	case tapelog.ExpiredAge:
		if start.MaxAge > 0 && l.To > 0 && l.Real-l.To < start.MaxAge-expirySlack {
			return fmt.Sprintf("for its age of %v, and the limit was %v", time.Duration(l.Real-l.To).Round(time.Second), time.Duration(start.MaxAge))
		}
	case tapelog.ExpiredSize:
		if what := b.unaskedSize(start, l); what != "" {
			return what
		}
	case tapelog.ExpiredFull: // needs a gap, see missingGaps
	default:
		return fmt.Sprintf("for %q, which is none of its reasons", escape.Bytes([]byte(l.Cause)))
	}
	if b.stopped {
		return "when no recorder ran"
	}
	return ""
}

// unaskedSize compares a removal for size with the limit then in force and the segments then present. The log has no
// size of unsealed segments: each may have had a segment's largest size, and sealing reserves space.
func (b *logBook) unaskedSize(start, l tapelog.Leaf) string {
	if len(b.starts) == 0 {
		return ""
	}
	limit := l.MaxSize
	before := b.limit
	b.limit = limit
	switch {
	case start.MaxSize == 0 && limit == 0:
		return "for the size of the tape, and there was no limit"
	case limit == 0 || start.MaxSize > 0 && limit > start.MaxSize:
		return fmt.Sprintf("for a limit of %d bytes, and the limit was %d", limit, start.MaxSize)
	case limit < before:
		return fmt.Sprintf("for a limit of %d bytes, and the same recorder had one of %d before", limit, before)
	}
	const batch = 16 << 20 // the next one may be that large
	most := limit/4 + batch
	for _, other := range b.segments {
		switch seal := other.sealLeaf(); {
		case other.expired:
		case seal != nil:
			most += seal.Size
		default:
			most += max(segment.LeastSegment, limit/segment.SegmentsInBudget)
		}
	}
	if most < limit {
		return fmt.Sprintf("for the size of the tape, which was %d bytes at the most, and the limit was %d", most, limit)
	}
	return ""
}

// confirm records that a batch was committed after a removal because of a full disk.
func (b *logBook) confirm(l tapelog.Leaf) {
	for i := range b.forced {
		f := &b.forced[i]
		f.confirmed = f.confirmed || l.Batches > 0 && (l.Segment != f.active || l.Batches > f.batches || l.Batches < f.leaf.Batches)
	}
}

// Untold returns the leaves, among the newest of a log, of segments removed because of a full disk without a batch after
// it: the recorder was killed before it could write the gap.
func Untold(newest []tapelog.Leaf) (untold []tapelog.Leaf) {
	book := newLogBook()
	for _, l := range newest {
		book.take(l)
	}
	for _, f := range book.forced {
		if !f.confirmed {
			untold = append(untold, f.leaf)
		}
	}
	return untold
}

// missingGaps checks that each removal because of a full disk has its gap in a remaining segment: without it, an answer
// would not report the missing rows. If a recorder was killed in between, the next one writes the gap.
func (v *tapeVerifier) missingGaps(results []*segmentVerifier) {
	for _, f := range v.book.forced {
		text := segment.RemovedDetail(f.leaf.Segment)
		told := slices.ContainsFunc(results, func(s *segmentVerifier) bool { return s.broken || slices.Contains(s.removed, text) })
		oldest := slices.ContainsFunc(results, func(s *segmentVerifier) bool { return s.number <= f.active })
		switch {
		case told || !oldest: // or the segment with the gap has expired too
		case f.confirmed:
			v.problem(Problem{Segment: f.leaf.Segment, File: tapedir.SegmentName(f.leaf.Segment), Since: segment.WallTime(f.leaf.Real),
				What: fmt.Sprintf("the log claims that retention removed it because the disk was full (%s), and no gap says so", f.leaf.Cause)})
		default:
			v.note(fmt.Sprintf("%s was removed because the disk was full, and the recorder was killed before it could say so in a gap", tapedir.SegmentName(f.leaf.Segment)))
		}
	}
}
