package store

import (
	"path/filepath"
	"slices"
	"time"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// Retention removes whole segments, the oldest first. Its cost for a batch does not depend on the tape's size: adding a
// few numbers, a leaf in the log, and a rename. It starts while there is room for a batch, so that no batch waits for
// the removal (remove.go), unless there is no other way.

// makeRoom removes segments so that g can be written: those older than MaxAge, or beyond the tape's size.
func (w *Writer) makeRoom(g growth) {
	w.expireOld()
	for w.tooMuch(g) && w.expireOldest(tapelog.ExpiredSize) {
	}
	w.makeSlotsFree()
	g = w.beyondLength(g)
	w.waitWhile(func() bool { return !w.fits(g) })
	w.unpin(!w.fits(g))
	w.noteGrowing(g)
	w.adjustReserve()
}

// beyondLength returns the part of g that exceeds the active segment's files.
func (w *Writer) beyondLength(g growth) growth {
	if w.seg != nil {
		g.db = max(0, g.db-max(0, w.seg.length-w.seg.pages*pageSize))
	}
	return g
}

// noteGrowing records the largest growth of the next batch.
func (w *Writer) noteGrowing(g growth) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog.growing = g.sum()
}

// tooMuch reports whether the tape with g would be too large, with the waiting segments sealed one by one.
func (w *Writer) tooMuch(g growth) bool {
	room, u, more := w.room(), w.usage(), w.beyondLength(g)
	return room > 0 && u.kept+u.next+max(u.reserved, retain.SealingBytes(u.active+g.db)-u.sorting)+more.sum()+retain.OtherFiles > room
}

// fits reports whether g can be written with expired segments still on the disk and sealing in progress.
func (w *Writer) fits(g growth) bool {
	room, u := w.room(), w.usage()
	return room == 0 || u.kept+u.expired+u.sealing+g.sum()+retain.OtherFiles <= room
}

// makeRoomToSeal removes the oldest segments until a waiting one can be sealed: sealing makes segments larger. Only the
// keeper calls it.
func (w *Writer) makeRoomToSeal() bool {
	for w.waiting() && w.tooMuch(growth{}) {
		if !w.expireOldest(tapelog.ExpiredSize) {
			w.expiring.Lock()
			defer w.expiring.Unlock()
			return !w.stopped
		}
	}
	return true
}

// room returns the limit of the tape's size; 0: none. It grows when other files leave the disk, and does not shrink when
// they take space.
func (w *Writer) room() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookAround()
	return w.catalog.room
}

// usage is what the tape takes.
func (w *Writer) usage() usage {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookAround()
	return w.catalog.usage()
}

// lookAroundEvery is the interval of checking the disk and the other files.
const lookAroundEvery = 10 * time.Second

// lookAround updates the state of the disk and the other files. The caller holds w.mu.
func (w *Writer) lookAround() {
	if time.Since(w.lookedAround) < lookAroundEvery {
		return
	}
	w.lookedAround = time.Now()
	taken, other := retain.Measure(w.dir)
	w.catalog.other = other
	d, err := retain.ReadDisk(w.dir)
	if err != nil {
		w.log.Warn("room not known", "path", w.dir, "error", err)
		return
	}
	if w.catalog.room == 0 {
		taken += retain.OtherFiles // the last recorder did not use that, see fillReserve
	}
	for _, p := range w.catalog.pinned {
		taken += p.Bytes
	}
	w.catalog.room = max(w.catalog.room, w.o.Limits.Room(taken, d))
}

// expireOld removes segments whose last event is older than MaxAge.
func (w *Writer) expireOld() {
	if w.o.Limits.MaxAge <= 0 || w.seg == nil {
		return
	}
	limit := w.wallNow() - int64(w.o.Limits.MaxAge)
	for {
		w.mu.Lock()
		oldest := w.catalog.oldest()
		w.mu.Unlock()
		if oldest == nil || oldest.to == 0 || oldest.to >= limit || !w.expireOldest(tapelog.ExpiredAge) {
			return
		}
	}
}

// wallNow is the time for ages: the wall clock, if the kernel says that it is synchronized. An unsynchronized clock may
// be decades off, and must not cost history: then only the time since this recorder's start counts, from the end of the
// previous segment.
func (w *Writer) wallNow() int64 {
	now := w.seg.heartbeat + w.seg.wallStep
	if w.synchronized {
		return now
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var last int64
	for _, s := range w.catalog.list {
		last = max(last, s.to)
	}
	ran := max(0, w.seg.heartbeat-w.seg.at(w.o.Now.Boot))
	if last == 0 {
		return now
	}
	return min(now, last+ran)
}

// expireOldest removes the oldest stored segment. It reports whether there is, or soon will be, more room. Writer and
// keeper both call it.
func (w *Writer) expireOldest(why string) bool {
	w.expiring.Lock()
	defer w.expiring.Unlock()
	if w.stopped {
		return false
	}
	s := w.takeOldest()
	if s == nil {
		return false
	}
	e := SegmentExpired{Segment: s.number, File: tapedir.SegmentName(s.number), SHA256: s.sha, Bytes: s.bytes, From: s.from, To: s.to, Why: why, Limit: w.room(),
		Rows: s.tally.Rows, Connects: s.tally.Connects}
	w.tell(e)
	gone, err := w.takeAway(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		s.state = aside
		s.stuck = true
		w.log.Error("segment not removed", "path", s.path, "error", err)
		return true // another one may succeed
	}
	w.catalog.remove(s)
	if s.seg != nil {
		w.aside = slices.DeleteFunc(w.aside, func(o *activeSegment) bool { return o == s.seg })
	}
	w.removeLater(gone)
	if why == tapelog.ExpiredFull {
		w.removed = append(w.removed, s)
	}
	w.log.Info("segment expired", "path", s.path, "why", why, "bytes", s.bytes)
	return true
}

// forcedPause is the pause between two removals because of a full disk. A process that takes freed space at once, or
// fills the disk for a moment, must not cost all of the history. Meanwhile the recorder keeps its rows in memory.
const forcedPause = 10 * time.Second

// makeRoomOnDisk makes room on a full disk: from the reserve, or else by removing the oldest segment.
func (w *Writer) makeRoomOnDisk() bool {
	w.unpin(true)
	if w.releaseReserve(max(startBytes, 2*retain.WALBytes(w.room()))) {
		return true
	}
	if time.Since(w.forced) < forcedPause {
		return false
	}
	w.forced = time.Now()
	return w.expireForRoom()
}

// expireForRoom removes the oldest stored segment because of a full disk, and waits until it is gone.
func (w *Writer) expireForRoom() bool {
	if !w.expireOldest(tapelog.ExpiredFull) {
		return false
	}
	w.waitForRemovals()
	return true
}

// takeOldest returns the oldest stored segment after the keeper has released it for good.
func (w *Writer) takeOldest() *stored {
	if err := w.lock.CheckPlace(); err != nil { // never remove another directory's files
		w.log.Error("no segment removed", "path", w.dir, "error", err)
		return nil
	}
	w.mu.Lock()
	s := w.catalog.oldest()
	if s == nil {
		w.mu.Unlock()
		return nil
	}
	done := s.done
	if done != nil {
		s.giveUp()
	}
	w.mu.Unlock()
	if done != nil {
		<-done
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.state == unsealed {
		s.state = aside
	}
	return s
}

// tellRemoved writes a gap into s for each segment removed because of a full disk.
func (w *Writer) tellRemoved(s *activeSegment) error {
	for _, r := range w.removed {
		var from, to any
		if r.from != 0 && r.to != 0 {
			from, to = r.from-s.wallStep, r.to-s.wallStep
		}
		// Two segments may have the same begin: their times are unknown, or the clock was set.
		if err := s.addGap(from, to, segment.CauseFull, 0, segment.RemovedDetail(r.number)); err != nil {
			return err
		}
	}
	return nil
}

// recallBytes limits the end of the log read at start for unreported removals: each recorder that failed to start has a
// leaf for each held segment. Reading takes some 50 ms.
const recallBytes = 4 << 20

// recallRemoved makes the next batch report removals because of a full disk that a killed recorder could not report.
func (w *Writer) recallRemoved() {
	leaves, err := tapelog.Tail(filepath.Join(w.dir, tapedir.LogDir), recallBytes)
	if err != nil {
		w.log.Warn("end of the log not read", "error", err)
		return
	}
	for _, l := range proof.Untold(leaves) {
		w.removed = append(w.removed, &stored{number: l.Segment, from: l.From, to: l.To})
	}
}

// unpin releases removed files that no reader has open any more. It truncates those kept too long, or all if their room
// is needed.
func (w *Writer) unpin(needed bool) {
	w.mu.Lock()
	none := len(w.catalog.pinned) == 0
	w.mu.Unlock()
	if none || !w.holding.TryLock() { // a hold may be copying one
		return
	}
	defer w.holding.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog.pinned = slices.DeleteFunc(w.catalog.pinned, func(p *retain.Pinned) bool {
		gone, isCut, err := p.Release(needed)
		if isCut {
			w.log.Warn("a segment that was removed is cut under its reader", "bytes", p.Bytes)
		}
		if err != nil {
			w.log.Error("removed segment not cut", "error", err)
		}
		return gone
	})
}

// OldestKept returns the first moment on the wall clock that the tape still tells of; zero: nobody knows. Any goroutine may ask.
func (w *Writer) OldestKept() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.catalog.list) == 0 || w.catalog.list[0].from == 0 {
		return time.Time{}
	}
	return time.Unix(0, w.catalog.list[0].from)
}
