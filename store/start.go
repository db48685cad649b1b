package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// openSegment finds the segment to write to when a recorder starts.
func (w *Writer) openSegment() error {
	numbers, newest, err := w.findSegments()
	if err != nil {
		return &failure.Error{Op: "open tape", Path: w.dir, Err: err}
	}
	w.loadCatalog(numbers, newest)
	w.beginReserve(newest)
	if !w.canStart() {
		w.releaseReserve(startBytes)
	}
	w.makeRoomToStart(newest)
	w.last.number, w.last.batches = newest, -1
	if newest == 0 {
		return w.begin(ReasonFirst, func(s *activeSegment) error {
			return s.putGapAt(nil, s.at(w.o.Now.Boot), segment.CauseStart, 0, "recording began")
		})
	}
	path := filepath.Join(w.dir, tapedir.SegmentName(newest))
	if tapedir.ClosedFile(path) {
		w.tapeID = w.lookAtEnd(path).tapeID
		w.addToCatalog(newest)
		return w.begin(ReasonSchema, nothingMore)
	}
	seg, err := w.continueWith(path, newest)
	if err != nil {
		w.addToCatalog(newest)
		if !failure.IsDamaged(err) && !isBusy(err) { // the keeper sees to those
			w.spare(newest)
		}
		return w.beginAfter(path, err)
	}
	w.tapeID = seg.tapeID
	w.rememberClock(seg)
	if seg.counts >= 0 {
		w.spare(seg.previous)
	}
	reason := w.reasonToLeave(seg)
	if reason == "" {
		err = w.resume(seg)
	} else if err = w.retire(seg); err == nil {
		return w.begin(reason, nothingMore)
	}
	if err != nil {
		w.leave(seg)
		return w.beginAfter(path, err)
	}
	return nil
}

// reasonToLeave says why the recorder must not go on with the newest segment, ""
// when it may. A restart of the host is none; another host is.
func (w *Writer) reasonToLeave(s *activeSegment) string {
	switch {
	case s.state == segment.StateClosed || s.schema != migrations.Version:
		return ReasonSchema
	case s.host != escape.String(w.o.Host, nil) || s.machineID != escape.String(w.o.MachineID, nil):
		return ReasonHost
	}
	return ""
}

// startBytes is what a recorder needs to begin: a new segment and its WAL, and the
// end of the one before.
const startBytes = 2 << 20

// makeRoomToStart removes the oldest segments when a disk is so full that recording
// could not even begin: a recorder that ends at once would be started for ever.
func (w *Writer) makeRoomToStart(newest int) {
	for told := false; ; told = true {
		d, err := retain.ReadDisk(w.dir)
		if err != nil || w.canStart() || d.Free >= startBytes && d.Files >= fullFiles || w.catalog.oldest() == nil {
			return
		}
		if !told {
			w.tell(RunStarted{TapeID: w.lookAtEnd(filepath.Join(w.dir, tapedir.SegmentName(newest))).tapeID, Segment: newest, BootID: w.o.BootID, At: w.o.Now})
		}
		w.expireForRoom()
	}
}

// nothingMore fills a segment whose predecessor says what was before it.
func nothingMore(*activeSegment) error { return nil }

// findSegments returns the numbers of the segments, and of the newest, 0 when there
// is none. One whose birth was cut short, and so never held anything, is removed.
func (w *Writer) findSegments() (numbers []int, newest int, err error) {
	if err := retain.FinishRemovals(w.dir); err != nil {
		w.log.Warn("rest of a segment not removed", "path", w.dir, "error", err)
	}
	if numbers, _, err = tapedir.List(w.dir); err != nil {
		return nil, 0, err
	}
	numbers = slices.DeleteFunc(numbers, func(n int) bool {
		path := filepath.Join(w.dir, tapedir.SegmentName(n))
		if !segment.Stillborn(w.patience, path) {
			return false
		}
		w.log.Warn("unfinished segment removed", "path", path)
		removeSegment(path)
		return true
	})
	if len(numbers) > 0 {
		newest = numbers[len(numbers)-1]
	}
	return numbers, newest, nil
}

// addToCatalog adds a segment that is not gone on with.
func (w *Writer) addToCatalog(number int) {
	s := &stored{number: number, path: filepath.Join(w.dir, tapedir.SegmentName(number))}
	s.measure()
	if previous, all := w.lookAt(s); !all {
		w.spare(previous)
	}
	w.catalog.add(s)
}

// spare marks a segment as one that was set aside.
func (w *Writer) spare(number int) {
	if s := w.catalog.find(number); s != nil && s.state == unsealed {
		s.state = aside
	}
}

// How a run ended that did not say so.
const (
	notStopped        = "the recorder did not stop cleanly: killed, or it crashed"
	restartNotStopped = "the host was restarted, and the recorder had not stopped cleanly"
)

// resume goes on with a segment, if need be in another boot.
func (w *Writer) resume(s *activeSegment) error {
	if w.patience.Err() != nil {
		return context.Cause(w.patience)
	}
	now := w.o.Now
	err := s.inTransaction(func() error {
		detail := notStopped
		if s.bootID != w.o.BootID {
			detail = restartNotStopped
			if err := s.beginBoot(&w.o); err != nil {
				return fmt.Errorf("begin boot: %w", err)
			}
			w.step("boot row written")
		}
		if err := s.endRun(s.at(now.Boot), detail, w.o.Handover); err != nil {
			return err
		}
		return w.openRun(s, now)
	})
	if err != nil {
		return err
	}
	w.step("run continued")
	w.fillWAL(s)
	if err := w.boundWAL(s); err != nil {
		return err
	}
	for _, name := range []string{s.path, s.path + "-wal"} {
		if err := tapedir.GiveToGroup(name, tapedir.FileMode); err != nil {
			return err
		}
	}
	w.adopt(s)
	w.log.Info("segment continued", "path", s.path)
	return nil
}

// adopt makes s the active segment.
func (w *Writer) adopt(s *activeSegment) {
	s.heartbeat = max(s.heartbeat, s.at(w.o.Now.Boot))
	s.state = segment.StateActive
	w.seg = s
	w.remember()
	w.noteActive()
}

// openRun writes the start of this recorder into s.
func (w *Writer) openRun(s *activeSegment, now Anchor) error {
	if err := s.beginRun(os.Getpid(), &w.o, w.firstCounters()); err != nil {
		return err
	}
	if err := s.insertAnchor(now); err != nil {
		return err
	}
	return s.exec(`UPDATE segment SET state = ?, heartbeat_ns = max(heartbeat_ns, ?)`, segment.StateActive, s.at(now.Boot))
}

// firstCounters are the counters that a run begins with.
func (w *Writer) firstCounters() segment.Counters {
	if w.o.Handover.Next == 0 {
		return nil
	}
	return segment.Counters{segment.HandoverCounter: w.o.Handover.Next}
}

// begin starts a new segment; fill writes what is to be said of the time before.
func (w *Writer) begin(reason string, fill func(*activeSegment) error) error {
	if w.patience.Err() != nil {
		return context.Cause(w.patience)
	}
	s, err := w.create(w.o.Now, w.firstCounters(), reason, fill)
	if err != nil {
		return err
	}
	w.adopt(s)
	return nil
}

// retire closes a segment of another host or schema for good: the gap that follows
// it is written into it, and the rest is left to the keeper.
func (w *Writer) retire(s *activeSegment) error {
	if w.patience.Err() != nil {
		return context.Cause(w.patience)
	}
	at, detail := s.at(w.o.Now.Boot), notStopped
	if s.bootID != w.o.BootID {
		// Boottime began anew: only the wall clock spans a restart.
		var err error
		if at, err = s.atWall(w.o.Now.Real); err != nil {
			return err
		}
		detail = restartNotStopped
	}
	if s.state != segment.StateClosed { // else a recorder was killed right here
		err := s.inTransaction(func() error {
			if err := s.endRun(at, detail, w.o.Handover); err != nil {
				return err
			}
			return s.exec(`UPDATE segment SET state = ?, closed_ns = max(?, heartbeat_ns)`, segment.StateClosed, at)
		})
		if err != nil {
			return err
		}
	}
	s.state = segment.StateClosed
	if err := w.boundWAL(s); err != nil {
		return err
	}
	w.handOver(s)
	w.log.Info("segment closed", "path", s.path)
	return nil
}

// atWall returns the time on the segment clock of a time on the wall clock, by
// the last anchor.
func (s *activeSegment) atWall(real int64) (int64, error) {
	offset := int64(0)
	err := s.query(func(q *sqlite.Stmt) error { offset = q.ColumnInt64(0); return nil },
		`SELECT offset_ns FROM clock ORDER BY id DESC LIMIT 1`)
	return real - offset, err
}

// beginAfter starts a new segment because the newest one cannot be used, and
// says so in a gap. What the old one knows of its end is read from a copy.
func (w *Writer) beginAfter(path string, cause error) error {
	name := filepath.Base(path)
	detail := fmt.Sprintf("%s was left as it is: %v", name, cause)
	switch sqlite.ErrCode(cause).ToPrimary() {
	case sqlite.ResultBusy, sqlite.ResultLocked:
		if !w.isAside(path) {
			detail = fmt.Sprintf("%s was left as it is: %s", name, tapedir.DescribeHolder(path))
		}
	}
	w.log.Warn("segment left", "path", path, "error", cause, "detail", detail)
	end := w.lookAtEnd(path)
	if w.tapeID == "" {
		w.tapeID = end.tapeID
	}
	return w.begin(ReasonFault, func(s *activeSegment) error {
		from := any(nil)
		if end.at != 0 {
			from = min(end.at, s.at(w.o.Now.Boot))
		}
		if end.stopped {
			return s.putGapAt(from, s.at(w.o.Now.Boot), segment.CauseStopped, 0, detail+end.note)
		}
		return s.putGapAt(from, s.at(w.o.Now.Boot), segment.CauseCrash, nil, detail+end.note+unknownLoss)
	})
}

// ending is what could be learnt about the end of a segment that is left.
type ending struct {
	at      int64 // wall clock, ns; 0 unknown
	stopped bool  // it was stopped cleanly
	tapeID  string
	note    string
}

// isAside reports whether the file is one that this process still has open.
func (w *Writer) isAside(path string) bool {
	return slices.ContainsFunc(w.aside, func(s *activeSegment) bool { return s.path == path })
}

// lookAtEnd reads the end of a segment that is not open in this process.
func (w *Writer) lookAtEnd(path string) ending {
	for _, aside := range w.aside {
		if aside.path == path { // ours: no descriptor may touch it
			return ending{at: aside.heartbeat, stopped: aside.state == segment.StateStopped, tapeID: aside.tapeID}
		}
	}
	var e ending
	err := segment.Peek(w.patience, path, func(conn *sqlite.Conn) error {
		return segment.Exec(conn, func(q *sqlite.Stmt) error {
			e.at = q.ColumnInt64(0)
			e.stopped = q.ColumnText(1) == segment.StateStopped
			e.tapeID = q.ColumnText(2)
			return nil
		}, `SELECT heartbeat_ns + (SELECT offset_ns FROM clock ORDER BY id DESC LIMIT 1), state, tape_id FROM segment`)
	})
	if err == nil && e.at != 0 {
		return e
	}
	info, err := os.Stat(path)
	if err != nil {
		return ending{}
	}
	at := info.ModTime()
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.ModTime().After(at) {
		at = wal.ModTime()
	}
	return ending{at: at.UnixNano(), note: "; it could not be read, its last change is taken as its end"}
}
