package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
)

// SegmentInfo describes one attached segment.
type SegmentInfo struct {
	Number   int
	Path     string // the file in the tape, not the private copy
	Bytes    int64  // size with its WAL when it was opened
	State    string // active, stopped, closed
	Snapshot bool   // read through a private copy

	TapeID, Host, MachineID, BootID, Kernel string
	Version, Backend                        string
	BlindSpots                              []string
	SchemaVersion                           int

	RunStart  time.Time // start of the newest recorder on it
	From, To  time.Time // first moment covered, last heartbeat
	Counters  Counters  // what was counted while this segment was active
	LastBatch time.Time // wall clock of the last commit
}

// GapInfo is one row of the view gaps.
type GapInfo struct {
	From, To time.Time // zero: unknown, still open
	Cause    string
	Lost     uint64
	Detail   string
	Segment  int
}

// Coverage says what answers from this tape can and cannot know.
type Coverage struct {
	TapeID   string
	From, To time.Time // first moment covered, last heartbeat

	Gaps     []GapInfo // oldest first
	Counters Counters  // sums over the attached segments
	Lost     uint64    // sum over the gaps

	Backends   []string
	BlindSpots []string

	Recording bool      // a recorder holds the newest segment right now
	PID       int       // its pid, 0 unknown
	Since     time.Time // when it started
	LastBatch time.Time // wall clock of its last commit

	// Segments that were left out, with the reason (more than fit, damaged).
	LeftOut []LeftOut
}

// LeftOut is a segment that an answer does not cover.
type LeftOut struct {
	Path string
	Err  error
}

// Coverage says what answers from this tape can and cannot know.
func (t *Tape) Coverage() (Coverage, error) {
	if t.conn == nil {
		return Coverage{}, &Error{Op: "read coverage", Path: t.dir, Err: ErrClosed}
	}
	oldest, newest := &t.segs[0].info, &t.segs[len(t.segs)-1].info
	c := Coverage{
		TapeID: newest.TapeID, From: oldest.From, To: newest.To,
		Counters: Counters{}, LastBatch: newest.LastBatch, LeftOut: slices.Clone(t.leftOut),
	}
	for _, seg := range t.segs {
		for name, n := range seg.info.Counters {
			c.Counters[name] += n
		}
	}
	if err := errors.Join(t.readGaps(&c), t.readBackends(&c)); err != nil {
		return Coverage{}, t.Explain(fmt.Errorf("read coverage: %w", err))
	}
	if err := t.findRecorder(&c); err != nil {
		return Coverage{}, &Error{Op: "look for recorder", Path: newest.Path, Err: bare(err)}
	}
	return c, nil
}

// readGaps fills c.Gaps and c.Lost.
func (t *Tape) readGaps(c *Coverage) error {
	moment := func(q *sqlite.Stmt, column int) time.Time {
		at, err := time.Parse(time.RFC3339Nano, q.ColumnText(column))
		if err != nil {
			return time.Time{} // NULL
		}
		return at
	}
	return execOn(t.conn, func(q *sqlite.Stmt) error {
		g := GapInfo{From: moment(q, 0), To: moment(q, 1), Cause: q.ColumnText(2),
			Lost: uint64(max(0, q.ColumnInt64(3))), Detail: q.ColumnText(4), Segment: q.ColumnInt(5)}
		c.Gaps = append(c.Gaps, g)
		c.Lost += g.Lost
		return nil
	}, `SELECT from_time, to_time, cause, lost, detail, segment FROM gaps ORDER BY segment, coalesce(from_ns, 0), id`)
}

// readBackends fills c.Backends and c.BlindSpots: of every run, not only the
// last, since old rows were seen by old ones.
func (t *Tape) readBackends(c *Coverage) error {
	add := func(list *[]string, s string) {
		if s != "" && !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, seg := range t.segs {
		err := execOn(t.conn, func(q *sqlite.Stmt) error {
			add(&c.Backends, q.ColumnText(0))
			for _, spot := range splitLines(q.ColumnText(1)) {
				add(&c.BlindSpots, spot)
			}
			return nil
		}, "SELECT backend, blind_spots FROM "+seg.schema+".run ORDER BY id")
		if err != nil {
			return err
		}
	}
	return nil
}

// findRecorder asks the kernel who holds the newest segment: a recorder holds it
// all the time, and its lock goes with it, however it ends.
func (t *Tape) findRecorder(c *Coverage) error {
	newest := t.segs[len(t.segs)-1].info
	path := newest.Path
	if t.single == "" { // the recorder may have gone on to the next
		if numbers, _, err := listSegments(t.dir); err == nil && len(numbers) > 0 {
			path = filepath.Join(t.dir, segmentName(numbers[len(numbers)-1]))
		}
	}
	pid, held, err := lockHolder(path, false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	if held {
		c.Recording, c.PID, c.Since = true, pid, newest.RunStart
	}
	return nil
}
