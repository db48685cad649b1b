package table

import (
	"math"
	"time"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"zombiezen.com/go/sqlite"
)

// timeSpan selects connections by time: ids, which are times on the segments' clocks, and times on the wall clock. Both
// ends are included.
type timeSpan struct {
	from, to         int64 // ids
	fromWall, toWall int64
}

// newTimeSpan returns that of a window.
func newTimeSpan(w input.Window) *timeSpan {
	s := &timeSpan{math.MinInt64, math.MaxInt64, math.MinInt64, math.MaxInt64}
	if !w.Since.IsZero() {
		s.from = w.Since.UnixNano()
	}
	if !w.Until.IsZero() {
		s.to = w.Until.UnixNano() - 1
	}
	return s
}

// window returns the window of the ids.
func (s *timeSpan) window() input.Window {
	w := input.Window{}
	if s.from > math.MinInt64 {
		w.Since = time.Unix(0, s.from)
	}
	if s.to < math.MaxInt64 {
		w.Until = time.Unix(0, s.to+1)
	}
	return w
}

// narrow applies a comparison to the span. It returns false if the value does not have the column's type.
func (s *timeSpan) narrow(column string, op sqlite.IndexConstraintOp, v sqlite.Value) bool {
	least, most := int64(math.MinInt64), int64(math.MaxInt64) // equal to the value
	from, to := &s.from, &s.to
	switch {
	case v.Type() == sqlite.TypeNull:
		s.from, s.to = math.MaxInt64, math.MinInt64
		return true
	case column == "time_ns" && v.Type() == sqlite.TypeInteger:
		least, most = v.Int64(), v.Int64()
	case column == "time" && v.Type() == sqlite.TypeText:
		from, to = &s.fromWall, &s.toWall
		least, most = firstMoment(v.Text()), before(firstMoment(v.Text()+"\x00"))
	default:
		return false
	}
	switch op {
	case sqlite.IndexConstraintGT:
		least, most = after(most), math.MaxInt64
	case sqlite.IndexConstraintGE:
		most = math.MaxInt64
	case sqlite.IndexConstraintLT:
		least, most = math.MinInt64, before(least)
	case sqlite.IndexConstraintLE:
		least = math.MinInt64
	}
	*from, *to = max(*from, least), min(*to, most)
	return true
}

// firstMoment returns the first moment whose text is not less than this.
func firstMoment(text string) int64 {
	if format.WallString(-1) < text {
		return boundary(text)
	}
	low, high := int64(math.MinInt64), int64(-1) // the answer is at most high
	for low < high {
		middle := low + int64(uint64(high-low)/2)
		if format.WallString(middle) >= text {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return high
}

// before and after return the adjacent moment, saturated.
func before(ns int64) int64 { return max(ns, math.MinInt64+1) - 1 }
func after(ns int64) int64  { return min(ns, math.MaxInt64-1) + 1 }

// keep returns the flow reduced to the span, nil if nothing is left.
func (s *timeSpan) keep(segment *SegmentSource, c *Contact) *Contact {
	if s == nil || s.fromWall == math.MinInt64 && s.toWall == math.MaxInt64 {
		return c // ids are read within it
	}
	kept := *c
	kept.IDs, kept.Counts, kept.N = nil, nil, 0
	for i, id := range c.IDs {
		if wall := segment.Wall(id); wall < s.fromWall || wall > s.toWall {
			continue
		}
		n := int64(1)
		if c.Counts != nil {
			n = c.Counts[i]
		}
		kept.IDs, kept.Counts, kept.N = append(kept.IDs, id), append(kept.Counts, n), kept.N+n
	}
	if len(kept.IDs) == 0 {
		return nil
	}
	if kept.N == int64(len(kept.IDs)) {
		kept.Counts = nil
	}
	return &kept
}

// ids returns the ids of a segment that may be in the span: from (included) and to (excluded).
func (s *timeSpan) ids(segment *SegmentSource) (from, to int64) {
	least, most := segment.offsets()
	from, to = max(s.from, minus(s.fromWall, most)), min(s.to, minus(s.toWall, least))
	if s.fromWall == math.MinInt64 {
		from = s.from
	}
	if s.toWall == math.MaxInt64 {
		to = s.to
	}
	return max(from, segment.First), min(to, segment.Last) + 1
}
