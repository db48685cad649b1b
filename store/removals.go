package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// Removal is a segment that retention has removed, as the log of the tape tells it.
type Removal struct {
	Segment  int
	At       time.Time // when it was removed
	Cause    string    // one of the Expired constants
	From, To time.Time // wall clock that it covered; zero unknown
	Rows     int64     // that it held, -1 unknown
	Connects int64     // that they stood for, -1 unknown
}

// Removals are what retention has removed from a tape. Of the oldest the log may tell
// no more: it is pruned as the tape is.
type Removals struct {
	List   []Removal // in the order in which they were removed
	Untold int       // segments that were removed before those
	Err    error     // why it cannot be known what was removed; nil it is known
}

// errOneFile: a segment does not know what was before it.
var errOneFile = errors.New("this is one file of a tape: what retention has removed is in the log of the tape")

// findRemovals returns how to read what retention has removed. It removes the oldest
// first, so that from a tape which begins with its first segment nothing was removed, and
// the log need not be read.
func (t *Tape) findRemovals() func() Removals {
	if t.single != "" {
		if t.segs[0].Info.Number <= 1 {
			return func() Removals { return Removals{} }
		}
		return func() Removals { return Removals{Err: errOneFile} }
	}
	numbers, _, err := tapedir.List(t.at(""))
	if err != nil || len(numbers) == 0 {
		return func() Removals { return Removals{Err: failure.Bare(err)} }
	}
	if numbers[0] <= 1 {
		return func() Removals { return Removals{} }
	}
	return sync.OnceValue(func() Removals { return readRemovals(t.at(""), numbers[0]) }) // asked before the tape is closed
}

// CauseRemoved is the cause of the rows of the view gaps that tell what retention has
// removed. No segment has such a row: they are read from the log.
const CauseRemoved = "removed"

// removalRows returns the removals as rows of the view gaps, in SQL. One from a full disk
// is told by the gap that the recorder wrote.
func (t *Tape) removalRows() (rows []string) {
	if t.ownGaps {
		return nil
	}
	if t.goneRows == nil {
		t.goneRows = []string{}
		for _, r := range t.findRemovals()().List {
			if r.Cause != tapelog.ExpiredFull {
				t.goneRows = append(t.goneRows, r.gapRow())
			}
		}
	}
	return t.goneRows
}

// withRemovals puts the removals before the gaps of the oldest segment.
func (t *Tape) withRemovals(gaps string) string {
	const columns = "id, from_time, to_time, cause, lost, detail, from_ns, to_ns, segment"
	return "(SELECT " + columns + " FROM (SELECT column1 AS id, column2 AS from_time, column3 AS to_time, column4 AS cause, column5 AS lost, column6 AS detail, " +
		"column7 AS from_ns, column8 AS to_ns, column9 AS segment FROM (VALUES " + strings.Join(t.removalRows(), ", ") + ")) UNION ALL SELECT " + columns + " FROM " + gaps + ")"
}

// gapRow returns the removal as a row of the view gaps, in SQL. What was removed is not
// lost: it was recorded.
func (r *Removal) gapRow() string {
	text, number := func(t time.Time) string {
		if t.IsZero() {
			return "NULL"
		}
		return "'" + t.UTC().Format("2006-01-02T15:04:05.000000000Z") + "'"
	}, func(t time.Time) string {
		if t.IsZero() {
			return "NULL"
		}
		return strconv.FormatInt(t.UnixNano(), 10)
	}
	held := "an unknown number of connections"
	if r.Connects >= 0 {
		held = fmt.Sprintf("%d connections", r.Connects)
	}
	detail := fmt.Sprintf("removed by retention (%s) at %s: %s", escape.Bytes([]byte(r.Cause)), r.At.UTC().Format(time.RFC3339), held)
	return fmt.Sprintf("(%d, %s, %s, '%s', 0, '%s', %s, %s, %d)", -r.Segment, text(r.From), text(r.To), CauseRemoved, segment.Quoted(detail), number(r.From), number(r.To), r.Segment)
}

// Removals reads what retention has removed before the oldest segment. On a tape that is
// old and was never pruned it takes a while: the log is read to its end.
func (c Coverage) Removals() Removals {
	if c.removals == nil {
		return Removals{}
	}
	return c.removals()
}

// readRemovals reads what the log says of the segments before the oldest.
func readRemovals(dir string, oldest int) Removals {
	var r Removals
	told := map[int]bool{}
	err := tapelog.Scan(filepath.Join(dir, tapedir.LogDir), tapelog.KindExpiry, func(l tapelog.Leaf) error {
		if told[l.Segment] || l.Segment >= oldest { // told again, or its removal is under way
			return nil
		}
		told[l.Segment] = true
		r.List = append(r.List, Removal{Segment: l.Segment, At: segment.WallTime(l.Real), Cause: l.Cause, From: segment.WallTime(l.From), To: segment.WallTime(l.To),
			Rows: l.Rows, Connects: l.Connects})
		return nil
	})
	switch {
	case errors.Is(err, tapelog.ErrNoLog), errors.Is(err, fs.ErrNotExist):
		return Removals{Err: errors.New("this tape has no log")}
	case err != nil:
		return Removals{Err: fmt.Errorf("the log of the tape cannot be read: %w", failure.Bare(err))}
	}
	r.Untold = oldest - 1 - len(r.List)
	return r
}
