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

// Removal is a segment removed by retention, according to the log.
type Removal struct {
	Segment  int
	At       time.Time // when it was removed
	Cause    string    // one of the Expired constants
	From, To time.Time // covered wall clock; zero: unknown
	Rows     int64     // rows in it; -1: unknown
	Connects int64     // connects of these rows; -1: unknown
}

// Removals are retention's removals from a tape. The log may lack the oldest: it is pruned like the tape.
type Removals struct {
	List   []Removal // in order of removal
	Untold int       // segments removed before those
	Err    error     // why the removals are unknown; nil: they are known
}

// errOneFile: a single segment does not know earlier ones.
var errOneFile = errors.New("this is one file of a tape: what retention has removed is in the log of the tape")

// findRemovals returns a function that reads the removals. Retention removes the oldest first: if the tape has its first
// segment, nothing was removed, and the log need not be read.
func (t *Tape) findRemovals() func() Removals {
	if t.single != "" {
		if t.segs[0].Info.Number <= 1 {
			return func() Removals { return Removals{} }
		}
		return func() Removals { return Removals{Err: errOneFile} }
	}
	first := t.lowest
	if !t.isListed() {
		numbers, _, err := tapedir.List(t.at(""))
		if err != nil || len(numbers) == 0 {
			return func() Removals { return Removals{Err: failure.Bare(err)} }
		}
		first = numbers[0]
	}
	if first <= 1 {
		return func() Removals { return Removals{} }
	}
	return sync.OnceValue(func() Removals { return readRemovals(t.at(""), first) }) // asked before the tape is closed
}

// CauseRemoved is the cause of rows in view gaps for removals. They come from the log, not from a segment.
const CauseRemoved = "removed"

// removalRows returns the removals as rows of view gaps, in SQL. The recorder itself writes gaps for removals because of
// a full disk.
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

// gapRow returns the removal as a row of view gaps, in SQL. lost is 0: the rows were recorded.
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

// Removals reads the removals before the oldest segment. It may take a while: it reads the whole log.
func (c Coverage) Removals() Removals {
	if c.removals == nil {
		return Removals{}
	}
	return c.removals()
}

// readRemovals reads removals of segments before oldest from the log.
func readRemovals(dir string, oldest int) Removals {
	var r Removals
	told := map[int]bool{}
	err := tapelog.Scan(filepath.Join(dir, tapedir.LogDir), tapelog.KindExpiry, func(l tapelog.Leaf) error {
		if told[l.Segment] || l.Segment >= oldest { // repeated, or its removal is not finished
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
