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

// Retention removes whole segments, the oldest first. What it costs a batch does
// not depend on what is kept: a few numbers are added up, the log takes a leaf, and
// a file is renamed. It begins while there is still room for a batch, so that none
// waits for the file to be gone (remove.go), unless there is no other way.

// makeRoom removes what must go before so much can be written: older than MaxAge,
// or beyond the size of the tape.
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

// beyondLength is how much of g the files of the active segment do not have yet.
func (w *Writer) beyondLength(g growth) growth {
	if w.seg != nil {
		g.db = max(0, g.db-max(0, w.seg.length-w.seg.pages*pageSize))
	}
	return g
}

// noteGrowing notes what the batch that is written next may take.
func (w *Writer) noteGrowing(g growth) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog.growing = g.sum()
}

// tooMuch reports whether the tape would be too large with g, when the segments that
// wait are sealed one after the other.
func (w *Writer) tooMuch(g growth) bool {
	room, u, more := w.room(), w.usage(), w.beyondLength(g)
	return room > 0 && u.kept+u.next+max(u.reserved, retain.SealingBytes(u.active+g.db)-u.sorting)+more.sum()+retain.OtherFiles > room
}

// fits reports whether g can be written although what has expired is not gone yet,
// and whatever sealing does meanwhile.
func (w *Writer) fits(g growth) bool {
	room, u := w.room(), w.usage()
	return room == 0 || u.kept+u.expired+u.sealing+g.sum()+retain.OtherFiles <= room
}

// makeRoomToSeal removes the oldest segments until one that waits can be sealed: the
// sealed ones before it are larger than they were. It belongs to the keeper.
func (w *Writer) makeRoomToSeal() {
	for w.waiting() && w.tooMuch(growth{}) && w.expireOldest(tapelog.ExpiredSize) {
	}
}

// room is how large the tape may become, 0 for any size. It grows when others leave
// the disk, and never shrinks for what they take of it.
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

// lookAroundEvery is how often the disk and the files that are no segments are looked
// at.
const lookAroundEvery = 10 * time.Second

// lookAround notes how things stand around the segments. The caller holds w.mu.
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
		taken += retain.OtherFiles // which the recorder before did not use, see fillReserve
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

// wallNow is the time by which age is told: the wall clock, if the kernel says
// that it is right. A clock that nothing disciplines may be decades off, and must
// not cost the tape its history: then only the time counts that went by while
// this recorder ran, from the end of the segment before.
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

// expireOldest has the oldest stored segment removed. It reports whether there is,
// or soon will be, more room. Writer and keeper may both call it.
func (w *Writer) expireOldest(why string) bool {
	w.expiring.Lock()
	defer w.expiring.Unlock()
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
		return true // that it did not work for this one does not mean that it does for none
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

// forcedPause is how long a disk that is full costs no further segment: whoever takes
// at once what a removal frees, or fills the disk for a moment, must not get all of the
// history for it. The recorder keeps what cannot be written meanwhile.
const forcedPause = 10 * time.Second

// makeRoomOnDisk makes room on a disk that is full: from the reserve, and only when
// there is none, by removing the oldest segment.
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

// expireForRoom removes the oldest stored segment from a disk that is full, and
// waits until it is gone.
func (w *Writer) expireForRoom() bool {
	if !w.expireOldest(tapelog.ExpiredFull) {
		return false
	}
	w.waitForRemovals()
	return true
}

// takeOldest returns the oldest stored segment, of which the keeper has let go,
// and will not touch it again.
func (w *Writer) takeOldest() *stored {
	if err := w.lock.CheckPlace(); err != nil { // nothing of somebody else's is removed
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

// tellRemoved writes into s, as gaps, what was removed before its time because
// the disk was full.
func (w *Writer) tellRemoved(s *activeSegment) error {
	for _, r := range w.removed {
		var from, to any
		if r.from != 0 && r.to != 0 {
			from, to = r.from-s.wallStep, r.to-s.wallStep
		}
		// Two segments may begin at the same time: nothing is known of when they were
		// recorded, or the clock was set.
		if err := s.addGap(from, to, segment.CauseFull, 0, segment.RemovedDetail(r.number)); err != nil {
			return err
		}
	}
	return nil
}

// recallBytes is how much of the end of the log is read to see what a recorder that
// was killed could not say: each one that is started in vain has a leaf for each held
// segment. It takes some 50 ms.
const recallBytes = 4 << 20

// recallRemoved has the next batch tell of segments that were removed from a full
// disk, if the recorder was killed before its next batch told of them.
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

// unpin lets go of the files that nobody has open any more, and cuts those that were
// kept for too long, or all of them if their room is needed.
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
