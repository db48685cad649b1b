package proof

import (
	"context"
	"path/filepath"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// The rest of a damaged segment does not always tell how much is lost: its newest pages, with the counters, may be lost
// too. If the segment is still in its tape, the log says how many connections it had.

// expected is the log's account of a segment.
type expected struct {
	tape   string // of the log; "": unknown
	sealed bool
	stored int64 // connections: of the segment if it was sealed, else of the last reporting recorder; -1: unknown
}

// expect reads the log beside a segment file. The result is unknown if there is no log or it does not mention the
// segment.
func expect(ctx context.Context, path string, number int) expected {
	e := expected{stored: -1}
	err := tapelog.Read(ctx, filepath.Join(filepath.Dir(path), tapedir.LogDir), func(l *tapelog.Leaf) {
		switch {
		case l.Tape != "":
			e.tape = escape.String(l.Tape, nil)
		case l.Segment != number:
		case l.Kind == tapelog.KindSeal:
			e.sealed, e.stored = true, segment.ClampInt64(l.Stored)
		case !e.sealed && (l.Kind == tapelog.KindCheckpoint || l.Kind == tapelog.KindStop):
			e.stored = segment.ClampInt64(l.Stored)
		}
	})
	if err != nil {
		return expected{stored: -1}
	}
	return e
}

// rows returns the least number of connections that the segment had, by the log and its own counters; -1: unknown.
func (e expected) rows(c keptCounters) int64 {
	switch {
	case e.sealed:
		return max(c.rows(), e.stored)
	case !c.some || e.stored < 0:
		return c.rows()
	case e.stored < c.last.First: // a later recorder, of which nothing is left
		return c.rows() + e.stored
	}
	return c.before + max(c.last.Value, e.stored) - c.last.First
}

// keptCounters are the remaining counters of stored connections.
type keptCounters struct {
	some   bool
	before int64           // connections of all recorders but the last
	last   segment.Counted // of the last
}

// rows returns the number of connections counted; -1: no counter is left.
func (c keptCounters) rows() int64 {
	if !c.some {
		return -1
	}
	return c.before + c.last.Since()
}

// readKept reads the remaining counters of a salvaged segment.
func readKept(conn *sqlite.Conn) (c keptCounters, err error) {
	err = segment.Exec(conn, func(q *sqlite.Stmt) error {
		c.before += c.last.Since()
		c.some, c.last = true, segment.Counted{First: q.ColumnInt64(0), Value: q.ColumnInt64(1)}
		return nil
	}, `SELECT first, value FROM counter WHERE name = 'stored' ORDER BY run`)
	return c, err
}
