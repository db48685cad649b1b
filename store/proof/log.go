package proof

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// logBook is the content of a log by segment.
type logBook struct {
	segments  map[int]*loggedSegment
	starts    []tapelog.Leaf // of recorders
	expired   []Expiry
	problems  []Problem
	first     time.Time
	end       time.Time // time of the last leaf
	endBefore time.Time // time of the last leaf before the last start
	bootID    string    // of the last start
	stopped   bool      // no recorder started after the last stop

	alarms    []tapelog.Leaf         // gaps caused by tampering with the recorder, each in its last report
	forced    []forcedExpiry         // removals because the disk was full
	limit     int64                  // of the last expiry of this run; 0: none
	holds     map[string]*loggedHold // by id
	holdOrder []string

	turns []segmentTurn // the active segment by leaf
}

// segmentTurn means that a segment was active from this leaf on.
type segmentTurn struct {
	leaf    int64
	segment int
}

// loggedSegment is the log's account of one segment.
type loggedSegment struct {
	number   int
	begun    *tapelog.Leaf // nil: it began before the log
	start    *tapelog.Leaf // start of the first recorder that mentions it
	seals    []tapelog.Leaf
	points   []chainPoint // checkpoints, in order
	clocks   []clockPoint // at checkpoints, until it is sealed
	gaps     []bootLeaf
	boots    []bootLeaf    // first leaf of each boot that mentions it, in order
	last     *tapelog.Leaf // last checkpoint or stop
	aside    bool
	damaged  *tapelog.Leaf // it was found damaged; nil: never
	expired  bool
	lastSeen time.Time // time of the last leaf about it
	lastLeaf int64
}

// bootLeaf is a leaf with its boot; "": unknown.
type bootLeaf struct {
	tapelog.Leaf
	bootID string
}

// chainPoint is the state of a segment at a checkpoint.
type chainPoint struct {
	leaf    int64
	real    int64 // its wall clock, ns
	batches int64
	chain   tapelog.Hash
}

func newLogBook() *logBook {
	return &logBook{segments: map[int]*loggedSegment{}, holds: map[string]*loggedHold{}}
}

// take adds the leaves in order.
func (b *logBook) take(l tapelog.Leaf) error {
	if b.first.IsZero() {
		b.first = segment.WallTime(l.Real)
	}
	before := b.end
	b.end = segment.WallTime(l.Real)
	switch l.Kind {
	case tapelog.KindStart:
		b.endBefore = before
		b.starts = append(b.starts, l)
		b.bootID, b.stopped, b.limit = l.BootID, false, 0
	case tapelog.KindPrune: // it repeats the removals that the removed starts had
		b.starts = append(b.starts, l)
	}
	if l.Kind == tapelog.KindStop {
		b.stopped = true
	}
	if l.Kind == tapelog.KindHold || l.Kind == tapelog.KindRelease {
		b.hold(l)
	}
	if l.Segment == 0 {
		return nil
	}
	s := b.segments[l.Segment]
	if s == nil {
		s = &loggedSegment{number: l.Segment}
		if len(b.starts) > 0 {
			s.start = &b.starts[len(b.starts)-1]
		}
		b.segments[l.Segment] = s
	}
	switch l.Kind {
	case tapelog.KindSegment:
		b.bootID = l.BootID // the start may have been pruned
		if s.begun != nil {
			b.problem(l, "the log says twice that this segment was begun")
		}
		s.begun = &l
		b.turns = append(b.turns, segmentTurn{l.Seq, l.Segment})
	case tapelog.KindCheckpoint, tapelog.KindStop:
		s.recordedIn(b.bootID, l)
		if len(b.turns) == 0 || b.turns[len(b.turns)-1].segment != l.Segment {
			b.turns = append(b.turns, segmentTurn{l.Seq, l.Segment})
		}
		s.reach(l)
		b.confirm(l)
		s.last = &l
		s.clocks = append(s.clocks, clockPoint{l.Seq, b.bootID, l.Boot, l.Real})
	case tapelog.KindGap:
		if l.Cause == segment.CauseStorage {
			s.aside = true
			if l.Batches < 0 {
				s.damaged = &l
			}
		} else {
			s.gaps = append(s.gaps, bootLeaf{l, b.bootID})
		}
		b.alarm(l)
	case tapelog.KindSeal:
		s.reach(l)
		s.clocks = nil // the hash proves more
		b.seal(s, l)
	case tapelog.KindExpiry:
		b.expire(s, l)
	}
	s.lastSeen, s.lastLeaf = segment.WallTime(l.Real), l.Seq
	return nil
}

// alarm records an alarm; of a lasting one, the last report.
func (b *logBook) alarm(l tapelog.Leaf) {
	if !segment.IsAlarm(l.Cause) {
		return
	}
	if n := len(b.alarms); n > 0 && b.alarms[n-1].Cause == l.Cause && b.alarms[n-1].From == l.From {
		b.alarms = b.alarms[:n-1]
	}
	b.alarms = append(b.alarms, l)
}

// alarmNote describes an alarm to the user.
func alarmNote(l tapelog.Leaf) string {
	text := fmt.Sprintf("tampering with the recorder, noticed at %s: %s", segment.WallTime(l.Real).UTC().Format(time.RFC3339), l.Cause)
	if l.Lost > 0 {
		text += fmt.Sprintf(", %d lost", l.Lost)
	}
	if l.Detail != "" {
		text += " (" + l.Detail + ")"
	}
	return text
}

// recordedIn records that the segment has commits of this boot.
func (s *loggedSegment) recordedIn(bootID string, l tapelog.Leaf) {
	if n := len(s.boots); bootID != "" && l.Batches > 0 && (n == 0 || s.boots[n-1].bootID != bootID) {
		s.boots = append(s.boots, bootLeaf{l, bootID})
	}
}

// reach records how far a segment had come, if that is further than before.
func (s *loggedSegment) reach(l tapelog.Leaf) {
	if l.Batches == 0 || len(s.points) > 0 && s.points[len(s.points)-1].batches == l.Batches {
		return
	}
	s.points = append(s.points, chainPoint{l.Seq, l.Real, l.Batches, l.Chain})
}

// seal records a seal. A recorder may repeat it unchanged: a segment has one hash.
func (b *logBook) seal(s *loggedSegment, l tapelog.Leaf) {
	for _, old := range s.seals {
		if old.SHA256 != l.SHA256 || old.Size != l.Size {
			b.problem(l, fmt.Sprintf("it was sealed again with another hash (leaf %d): it is not the segment that was sealed first (leaf %d)", l.Seq, old.Seq))
			return
		}
	}
	if len(s.seals) == 0 {
		s.seals = append(s.seals, l)
	}
}

// problem reports a problem with leaf l about its segment. The segment's last leaf before it tells until when the
// segment was right.
func (b *logBook) problem(l tapelog.Leaf, what string) {
	p := Problem{Segment: l.Segment, File: tapedir.SegmentName(l.Segment), What: what}
	if s := b.segments[l.Segment]; s != nil {
		p.Since = s.lastSeen
	}
	b.problems = append(b.problems, p)
}

// segmentAt returns the segment active at a leaf; 0: none.
func (b *logBook) segmentAt(leaf int64) int {
	if leaf < 0 {
		return 0
	}
	i := sort.Search(len(b.turns), func(i int) bool { return b.turns[i].leaf > leaf })
	if i == 0 {
		return 0
	}
	return b.turns[i-1].segment
}

// inOrder returns the segments by number.
func (b *logBook) inOrder() []*loggedSegment {
	list := make([]*loggedSegment, 0, len(b.segments))
	for _, s := range b.segments {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *loggedSegment) int { return a.number - b.number })
	return list
}

// salvaged reports whether the segment was salvaged from a damaged one.
func (s *loggedSegment) salvaged() bool {
	return s != nil && s.damaged != nil && len(s.seals) > 0 && s.seals[0].Seq > s.damaged.Seq
}

// sealLeaf returns the first seal of the segment; nil: none.
func (s *loggedSegment) sealLeaf() *tapelog.Leaf {
	if s == nil || len(s.seals) == 0 {
		return nil
	}
	return &s.seals[0]
}

// ReadCheckpoint returns the signed checkpoint of the last leaf in the tape's log, to be kept elsewhere. It verifies
// nothing.
func ReadCheckpoint(dir string) ([]byte, error) {
	head, _, err := tapelog.Head(filepath.Join(dir, tapedir.LogDir))
	switch {
	case errors.Is(err, tapelog.ErrNoLog), errors.Is(err, fs.ErrNotExist):
		return nil, &failure.Error{Op: "read checkpoint", Path: dir, Err: errors.New("there is no log here"),
			Hint: "record a tape with: conntape record --dir " + dir}
	case err != nil:
		return nil, &failure.Error{Op: "read checkpoint", Path: dir, Err: failure.Bare(err), Hint: failure.HintFor(err)}
	}
	return head, nil
}

// FindCheckpoint reads a kept signed checkpoint: the output of conntape checkpoint, or the newest one in a system log.
func FindCheckpoint(r io.Reader) ([]byte, error) { return tapelog.FindHead(r) }

// CheckpointLine formats a signed checkpoint as one line.
func CheckpointLine(head []byte) string { return tapelog.HeadLine(head) }
