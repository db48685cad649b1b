package store

import (
	"slices"
	"time"
)

// Retention removes whole segments, the oldest first. What it costs a batch does
// not depend on what is kept: a few numbers are added up, the log takes a leaf, and
// a file is renamed. It begins while there is still room for some batches, so that
// none waits for the file to be gone (remove.go), unless there is no other way.

// makeRoom removes what must go before the batch can be written: older than
// MaxAge, beyond MaxBytes, or eating what is to stay free.
func (w *Writer) makeRoom(b *Batch) {
	w.expireOld()
	if w.seg == nil {
		return
	}
	g := w.estimator.estimate(w.seg, b)
	for {
		why := w.tooMuch(g)
		if why == "" {
			w.waitWhile(func() bool { return !w.fits(g) })
			return
		}
		if w.expireOldest(why) {
			continue
		}
		if !w.giveUpActive(why) {
			return
		}
		g = w.estimator.estimate(w.seg, b) // all that it refers to is new there
	}
}

// tooMuch says which bound g would pass, "" when none. A disk that is about to be
// full is one, whatever the limits are.
func (w *Writer) tooMuch(g growth) string {
	l := w.o.Limits
	u := w.usage()
	need := u.kept + u.reserved + g.sum()
	if l.MaxBytes > 0 && need+otherFiles+l.walBytes() > l.MaxBytes {
		return ExpiredSize
	}
	d, err := readDisk(w.dir)
	if err != nil {
		return ""
	}
	switch left, keep := d.free+u.frees-u.reserved-g.sum(), l.keepFree(d); {
	case left < otherFiles:
		return ExpiredFull
	case keep > 0 && left-l.ahead(d) < keep && need > w.squeeze.allowed(u.kept, l.leastKept(d)):
		return ExpiredFree
	}
	return ""
}

// fits reports whether the batch can be written although what has expired is not
// gone yet, and whatever sealing does meanwhile.
func (w *Writer) fits(g growth) bool {
	l := w.o.Limits
	u := w.usage()
	if l.MaxBytes > 0 && u.kept+u.expired+u.sealing+g.sum()+otherFiles > l.MaxBytes {
		return false
	}
	d, err := readDisk(w.dir)
	return err != nil || d.free-u.sealing-g.sum() >= max(otherFiles, l.keepFree(d))
}

// usage is what the tape takes, the active segment included.
func (w *Writer) usage() usage {
	if time.Since(w.otherMeasured) > otherEvery {
		w.otherMeasured = time.Now()
		other := w.measureOther()
		w.mu.Lock()
		w.catalog.other = other
		w.mu.Unlock()
	}
	w.mu.Lock()
	u := w.catalog.usage()
	w.mu.Unlock()
	if w.seg != nil {
		u.kept += w.seg.bytes()
	}
	return u
}

// otherEvery is how often files that are no segments are looked at.
const otherEvery = 10 * time.Second

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
		if oldest == nil || oldest.to == 0 || oldest.to >= limit || !w.expireOldest(ExpiredAge) {
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
// or soon will be, more room.
func (w *Writer) expireOldest(why string) bool {
	s := w.takeOldest()
	if s == nil {
		return false
	}
	e := SegmentExpired{Segment: s.number, File: segmentName(s.number), SHA256: s.sha, Bytes: s.bytes, From: s.from, To: s.to, Why: why, Limit: w.o.Limits.MaxBytes,
		Rows: s.tally.rows, Connects: s.tally.connects}
	w.tell(e)
	gone, err := w.takeAway(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		s.settle(aside)
		s.stuck = true
		w.log.Error("segment not removed", "path", s.path, "error", err)
		return true // that it did not work for this one does not mean that it does for none
	}
	w.catalog.remove(s)
	if s.seg != nil {
		w.aside = slices.DeleteFunc(w.aside, func(o *segment) bool { return o == s.seg })
	}
	w.removeLater(gone)
	if why == ExpiredFree || why == ExpiredFull {
		w.removed = append(w.removed, s)
	}
	w.log.Info("segment expired", "path", s.path, "why", why, "bytes", s.bytes)
	return true
}

// expireForRoom removes the oldest stored segment from a disk that is full, and
// waits until it is gone.
func (w *Writer) expireForRoom() bool {
	if !w.expireOldest(ExpiredFull) {
		return false
	}
	w.waitForRemovals()
	return true
}

// takeOldest returns the oldest stored segment, of which the keeper has let go,
// and will not touch it again.
func (w *Writer) takeOldest() *stored {
	if err := w.lock.checkPlace(); err != nil { // nothing of somebody else's is removed
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
		s.settle(aside)
	}
	return s
}

// giveUpActive closes the active segment, so that it can be removed next, when
// nothing else is left. One that is small already is kept: recording goes on.
func (w *Writer) giveUpActive(why string) bool {
	if w.seg == nil || w.seg.bytes() < leastSegment || time.Since(w.rotationFailed) < rotationPause {
		return false
	}
	if err := w.rotate(ReasonSize); err != nil {
		w.rotationFailed = time.Now()
		w.log.Error("segment not rotated", "path", w.seg.path, "why", why, "error", err)
		return false
	}
	return true
}

// expireActive removes the active segment, which is all that is left of the tape,
// because the disk takes no more of it. One that is small is kept: removing it
// would win nothing.
func (w *Writer) expireActive() bool {
	if w.seg == nil || w.seg.bytes() < leastSegment {
		return false
	}
	w.leave(w.seg)
	w.last.number, w.last.batches = w.seg.number, w.seg.batches
	w.seg = nil
	return w.expireForRoom()
}

// removedDetail is the detail of the gap that tells of a segment which was removed.
func removedDetail(number int) string {
	return segmentName(number) + " was removed before its time: the disk was full"
}

// tellRemoved writes into s, as gaps, what was removed before its time because
// the disk was full.
func (w *Writer) tellRemoved(s *segment) error {
	for _, r := range w.removed {
		var from, to any
		if r.from != 0 && r.to != 0 {
			from, to = r.from-s.wallStep, r.to-s.wallStep
		}
		err := s.putGapAt(from, to, CauseFull, 0, removedDetail(r.number))
		if err != nil {
			return err
		}
	}
	return nil
}
