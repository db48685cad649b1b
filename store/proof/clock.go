package proof

import (
	"sort"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// clockSlack limits the difference between the segment's and the log's wall clock: between two anchors, a minute apart,
// a clock that is being corrected can run a tenth fast or slow.
const clockSlack = 10 * time.Second

// clockPoint is a reading of both clocks in a leaf.
type clockPoint struct {
	leaf   int64
	bootID string // "" unknown
	boot   uint64 // CLOCK_BOOTTIME, ns
	real   int64  // CLOCK_REALTIME, ns since the Unix epoch
}

// checkClock compares the segment's wall clock with the clock noted in the log every 10 s. Only two wrong leaves in a
// row are a problem: one may have been written between a step of the clock and its discovery.
func (s *segmentVerifier) checkClock(conn *sqlite.Conn) error {
	if s.book == nil || s.hashed || len(s.book.clocks) == 0 {
		return nil
	}
	type row struct{ from, offset int64 }
	var rows []row
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		rows = append(rows, row{q.ColumnInt64(0), q.ColumnInt64(1)})
		return nil
	}, `SELECT id, offset_ns FROM clock ORDER BY id`)
	if err != nil {
		return err
	}
	right, wrong := time.Time{}, false
	for _, p := range s.book.clocks {
		boot := s.bootNamed(p.bootID)
		if boot == nil {
			continue
		}
		at := boot.At(int64(p.boot))
		if at < boot.First || at > boot.Last {
			continue
		}
		i := sort.Search(len(rows), func(i int) bool { return rows[i].from > at })
		shown := at
		if i > 0 {
			shown += rows[i-1].offset
		}
		off := time.Duration(shown - p.real)
		switch {
		case off.Abs() <= clockSlack:
			right, wrong = segment.WallTime(p.real), false
		case wrong:
			s.fail(right, "the wall clock that it shows its times on is %v off the one that the log noted (leaf %d)", off.Round(time.Second), p.leaf)
			return nil
		default:
			wrong = true
		}
	}
	return nil
}
