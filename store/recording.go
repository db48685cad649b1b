package store

import (
	"math"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// Recording tells, on the clock of a segment, whose end may still be told: what the view recording of the newest segment of the
// tape said when the tape was opened.
type Recording struct {
	Run      int64 // when the newest run began: the ends of connections before it are not told any more
	Lost     int64 // until when outcomes were lost; Never none
	Followed int64 // from which connection on, or from which look at an open one, the end may still be told; Never none
	Closed   bool  // the tape goes on elsewhere
}

// Never is later than any time on a clock. In [Recording.Lost] it means that there is none.
const Never = math.MaxInt64

// In replaces the view recording in SQL over the tables of a segment by values of the whole tape, which knows more than the
// segment.
func (r Recording) In(sql string) string {
	number := func(n int64) string {
		if n == Never {
			return "NULL"
		}
		return strconv.FormatInt(n, 10)
	}
	closed := "0"
	if r.Closed {
		closed = "1"
	}
	return strings.ReplaceAll(sql, "FROM recording", "FROM (SELECT "+strconv.FormatInt(r.Run, 10)+" AS run_ns, "+number(r.Lost)+" AS lost_ns, "+
		number(r.Followed)+" AS followed_ns, "+closed+" AS closed)")
}

// newestRun is Recording on CLOCK_BOOTTIME.
type newestRun struct {
	bootID string
	place  int // of the newest segment
	here   Recording
	offset int64 // of the segment clock
}

// readNewestRun reads it. Of a segment that cannot be read nobody knows that anything is followed; whoever reads it is told why.
func (t *Tape) readNewestRun() {
	n := newestRun{place: len(t.segs) - 1, here: Recording{Run: Never, Lost: Never, Followed: Never}}
	boots := t.segs[n.place].Boots
	n.bootID, n.offset = boots[len(boots)-1].BootID, boots[len(boots)-1].Offset
	orNever := func(q *sqlite.Stmt, column int) int64 {
		if q.ColumnIsNull(column) {
			return Never
		}
		return q.ColumnInt64(column)
	}
	_ = t.Use(n.place, func(conn *sqlite.Conn) error {
		return segment.Exec(conn, func(q *sqlite.Stmt) error {
			n.here = Recording{orNever(q, 0), orNever(q, 1), orNever(q, 2), q.ColumnBool(3)}
			return nil
		}, `SELECT run_ns, lost_ns, followed_ns, closed FROM recording`)
	})
	t.newest = n
}

// Recording returns that of a segment, by its place among Segments. Any goroutine may ask.
func (t *Tape) Recording(place int) Recording {
	r := t.newest.here
	if place == t.newest.place {
		return r
	}
	boot := t.segs[place].BootNamed(t.newest.bootID)
	if boot == nil { // the host was started anew since
		return Recording{Run: Never, Lost: Never, Followed: Never}
	}
	for _, at := range []*int64{&r.Run, &r.Lost, &r.Followed} {
		if *at != Never {
			*at += boot.Offset - t.newest.offset
		}
	}
	return r
}
