package table

import (
	"cmp"
	"context"
	"slices"
)

// ORDER BY count DESC is answered without a look at each row. Nearly all rows stand for one connect, and a segment has a table
// of those that stand for several. These come first, by their counts; then the others, one segment after the other.

// mostOpen limits the segments for which it is done so: all of them are open at the same time.
const mostOpen = 64

// repeatsAreFew reports whether the rows that stand for several connects can be sorted here. The answer is kept: SQLite plans a
// statement several times.
func (t *virtualTable) repeatsAreFew() bool {
	if t.repeats < 0 {
		t.repeats = 0
		for _, s := range t.tape.Sources() {
			n, err := s.countRepeats(t.ctx)
			if err != nil || len(t.tape.Sources()) > mostOpen {
				t.repeats = 1 << 62 // whoever reads the segment reports the error
				break
			}
			t.repeats += n
		}
	}
	return t.repeats <= t.tape.Limits.Repeats
}

// rowSource gives the rows of segments in some order.
type rowSource interface {
	next(timeOrder) (*StreamSegment, error) // the segment with the next row, nil at the end
	close()
}

// countedRow is a row of a segment that does not stand for one connect.
type countedRow struct {
	repeat
	segment int // of a stream
}

// inParts gives the rows of one source after those of another.
type inParts []rowSource

func (p *inParts) next(timeOrder) (*StreamSegment, error) {
	for len(*p) > 0 {
		segment, err := (*p)[0].next(bySegment)
		if segment != nil || err != nil {
			return segment, err
		}
		(*p)[0].close()
		*p = (*p)[1:]
	}
	return nil, nil
}

func (p *inParts) close() {
	for _, part := range *p {
		part.close()
	}
	*p = nil
}

// mostFirst gives the rows of streams with the highest counts first, and of equal ones those of the first segment and id.
// open returns a stream of all rows.
func mostFirst(ctx context.Context, open func() *stream) (rowSource, error) {
	streams := [3]*stream{open(), open(), open()}
	above, below, err := streams[0].counted(ctx)
	if err != nil {
		return nil, err
	}
	for _, segment := range streams[1].Segments {
		segment.single = true
	}
	return &inParts{newListed(streams[0], above), &merger{left: streams[1].Segments}, newListed(streams[2], below)}, nil
}

// counted reads the rows that stand for several connects; and those for less than one, which only altered tapes have.
func (s *stream) counted(ctx context.Context) (above, below []countedRow, err error) {
	for i, segment := range s.Segments {
		source := &SegmentSource{Source: segment.Source}
		if err := source.describe(ctx); err != nil {
			return nil, nil, err
		}
		for _, r := range source.repeats {
			if r.Count > 1 {
				above = append(above, countedRow{r, i})
			} else if r.Count < 1 {
				below = append(below, countedRow{r, i})
			}
		}
	}
	for _, list := range [][]countedRow{above, below} {
		slices.SortFunc(list, func(a, b countedRow) int {
			return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.segment, b.segment), cmp.Compare(a.id, b.id))
		})
	}
	return above, below, nil
}

// listed gives listed rows of several segments, in the order of the list.
type listed struct {
	segments []*StreamSegment // nil once ended
	rows     []countedRow
}

func newListed(s *stream, rows []countedRow) *listed {
	of := make([][]repeat, len(s.Segments))
	for _, r := range rows {
		of[r.segment] = append(of[r.segment], r.repeat)
	}
	for i, segment := range s.Segments {
		choose := segment.prepare
		segment.listed = of[i]
		segment.prepare = func(to *StreamSegment) (some bool, err error) {
			if len(of[i]) == 0 {
				return false, nil
			}
			if some, err = choose(to); err != nil || !some {
				return false, err
			}
			chosen := to.ids
			to.listed = slices.DeleteFunc(of[i], func(r repeat) bool {
				if chosen != nil {
					if _, found := slices.BinarySearch(chosen, r.id); !found {
						return true
					}
				}
				return r.id < to.from || r.id >= to.to
			})
			to.ids = nil
			return len(to.listed) > 0, nil
		}
	}
	return &listed{s.Segments, rows}
}

func (l *listed) next(timeOrder) (*StreamSegment, error) {
	for len(l.rows) > 0 {
		row := l.rows[0]
		l.rows = l.rows[1:]
		segment := l.segments[row.segment]
		for !segment.ended && (!segment.begun || position(segment.row, row.repeat) < 0) {
			if err := segment.next(); err != nil {
				return nil, err
			}
		}
		if !segment.ended && segment.row.id == row.id {
			return segment, nil
		}
	}
	return nil, nil
}

// position compares a row of a segment with another of its list.
func position(row streamRow, other repeat) int {
	return cmp.Or(-cmp.Compare(row.count, other.Count), cmp.Compare(row.id, other.id))
}

func (l *listed) close() {
	for _, segment := range l.segments {
		segment.finish()
	}
	*l = listed{}
}
