package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// GapInfo is one row of the view gaps.
type GapInfo struct {
	From, To time.Time // zero: unknown, still open
	Cause    string
	Lost     Loss
	Detail   string
	Segment  int
}

// Loss is a number of connections that were lost.
type Loss struct {
	Known   uint64
	Unknown bool // there are more, of unknown number
}

// Add adds the loss of another gap.
func (l *Loss) Add(o Loss) {
	l.Known += o.Known
	l.Unknown = l.Unknown || o.Unknown
}

// Coverage says what answers from this tape can and cannot know.
type Coverage struct {
	TapeID   string
	From, To time.Time // first moment covered, last heartbeat

	Gaps     []GapInfo        // oldest first
	Counters segment.Counters // sum over the runs: [SegmentInfo] has a segment's
	Lost     Loss             // sum over the gaps, without what was excluded
	// RunCounters are the newest run's: they only grow until the next run.
	RunCounters segment.Counters

	Backends   []string
	BlindSpots []string

	Recording bool      // a recorder has the newest segment open now
	PID       int       // its pid, 0 unknown
	Since     time.Time // when it started
	LastBatch time.Time // wall clock of its last commit

	// GoesOn means that a later segment follows the newest one here: what became of connections that were open then is there.
	GoesOn bool

	// segments left out, with the reason
	LeftOut []LeftOut

	removals func() Removals
}

// LeftOut is a segment that an answer does not cover.
type LeftOut struct {
	Path string
	Err  error
}

// Coverage says what answers from this tape can and cannot know.
func (t *Tape) Coverage() (Coverage, error) {
	if t.conn == nil {
		return Coverage{}, &failure.Error{Op: "read coverage", Path: t.dir, Err: failure.ErrClosed}
	}
	oldest, newest := &t.segs[0].Info, &t.segs[len(t.segs)-1].Info
	c := Coverage{
		TapeID: newest.TapeID, From: oldest.From, To: newest.To,
		LastBatch: newest.LastBatch, GoesOn: t.newest.here.Closed, removals: t.findRemovals(),
	}
	var runs segment.Recorders
	for _, seg := range t.segs {
		runs.Add(seg.Runs)
	}
	c.Counters, c.RunCounters = runs.Counters(), runs[max(0, len(runs)-1):].Counters()
	c.addBackends(runs)
	t.ownGaps = true // report removals once
	err := t.readGaps(&c)
	t.ownGaps = false
	c.LeftOut = t.LeftOut() // of segments that have gone meanwhile too
	if err != nil {
		return Coverage{}, t.Explain(fmt.Errorf("read coverage: %w", err))
	}
	if err := t.findRecorder(&c); err != nil {
		return Coverage{}, &failure.Error{Op: "look for recorder", Path: newest.Path, Err: failure.Bare(err)}
	}
	if c.Recording && len(runs) > 0 {
		c.Since = segment.WallTime(runs[len(runs)-1].Start)
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
	return segment.Exec(t.conn, func(q *sqlite.Stmt) error {
		g := GapInfo{From: moment(q, 0), To: moment(q, 1), Cause: q.ColumnText(2),
			Lost: Loss{uint64(max(0, q.ColumnInt64(3))), q.ColumnIsNull(3)}, Detail: q.ColumnText(4), Segment: q.ColumnInt(5)}
		c.Gaps = append(c.Gaps, g)
		if _, ok := segment.ExcludedBy(g.Cause); !ok {
			c.Lost.Add(g.Lost)
		}
		return nil
	}, `SELECT from_time, to_time, cause, lost, detail, segment FROM gaps ORDER BY segment, coalesce(from_ns, 0), id`)
}

// addBackends fills c.Backends and c.BlindSpots from every run, since old rows come from old runs.
func (c *Coverage) addBackends(runs segment.Recorders) {
	add := func(list *[]string, s string) {
		if s != "" && !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, r := range runs {
		add(&c.Backends, r.Backend)
		for _, spot := range segment.SplitLines(r.BlindSpots) {
			add(&c.BlindSpots, spot)
		}
	}
}

// findRecorder asks the kernel which process has locked the newest segment. A recorder's lock always ends with it.
func (t *Tape) findRecorder(c *Coverage) error {
	path := t.at(filepath.Base(t.segs[len(t.segs)-1].Info.Path))
	if t.single == "" && !t.isListed() { // the recorder may have begun the next segment
		if numbers, _, err := tapedir.List(t.at("")); err == nil && len(numbers) > 0 {
			path = t.at(tapedir.SegmentName(numbers[len(numbers)-1]))
		}
	}
	pid, held, err := tapedir.LockHolder(path, false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	if held {
		c.Recording, c.PID = true, pid
	}
	return nil
}
