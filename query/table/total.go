package table

import (
	"context"
	"math"
)

// isTotal reports whether no column is asked for that tells connections of a segment apart: they are counted as they lie in
// the table, which takes a fifth of the time of their contacts.
func (t *ContactTable) isTotal(s *SegmentSource) bool {
	for _, columns := range t.columns {
		if len(columns) > 0 {
			return false
		}
	}
	if t.by != (slots{}) {
		return false
	}
	timed := t.span != nil && (t.span.fromWall != math.MinInt64 || t.span.toWall != math.MaxInt64)
	return t.span != nil && !timed && s.steady && s.About.tasks == nil && s.About.Remotes == nil && s.About.shapes == ""
}

// total adds the row of all connections of a segment that are in the view.
func (t *ContactTable) total(ctx context.Context, s *SegmentSource, from, to int64) error {
	if from >= to {
		return nil
	}
	has, err := s.inView(ctx)
	if err != nil {
		return err
	}
	row, repeats := mergedRow{segment: int32(s.Index), moments: moments{ended: Never}}, s.repeats
	row.Task, row.Remote, row.How = t.Tasks.number(&t.mu, nil), t.Remotes.number(&t.mu, nil), t.Hows.number(&t.mu, nil)
	err = s.Tape.ScanConnections(ctx, s.Index, from, to, s.wanted, func(id, task, remote, shape int64) error {
		if !has[0](task) || !has[1](remote) || !has[2](shape) {
			return nil
		}
		end, count := id, int64(1)
		for len(repeats) > 0 && repeats[0].id < id {
			repeats = repeats[1:]
		}
		if len(repeats) > 0 && repeats[0].id == id {
			end, count = repeats[0].last, repeats[0].Count
		}
		if row.rows == 0 {
			row.found, row.First, row.lastWall = id, id, end
		}
		row.rows, row.N, row.newest = row.rows+1, row.N+count, id
		row.ended, row.lastWall = min(row.ended, end), max(row.lastWall, end) // ids; the clock does not go back
		return nil
	})
	if err != nil || row.rows == 0 {
		return err
	}
	row.FirstWall, row.newestWall, row.ended, row.lastWall = s.Wall(row.First), s.Wall(row.newest), s.Wall(row.ended), s.Wall(row.lastWall)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Rows.add(row)
	return nil
}

// isOddTime reports whether the segment has times that no clock shows, as an altered tape may: before 1970, or beyond what a
// number holds. The view says what SQLite makes of them.
func (s *SegmentSource) isOddTime() bool {
	if s.First > s.Last {
		return false
	}
	least, most := s.offsets()
	first, last := s.First, s.Last
	for _, r := range s.repeats {
		first, last = min(first, r.last), max(last, r.last)
	}
	return first < 0 || minus(first, -least) < 0 || last > Never-max(most, 0) || len(s.clock) == 0 || s.clock[0].from > first
}
