package store

import (
	"slices"
	"time"
)

// Retention removes whole segments, the oldest first. What it costs does not
// depend on what is kept: a few numbers are added up, and a file is unlinked, for
// which a file system takes some 0.2 ms a MiB.

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
	usage, reserved := w.usage()
	if l.MaxBytes > 0 && usage+reserved+g.sum()+otherFiles > l.MaxBytes {
		return ExpiredSize
	}
	d, err := readDisk(w.dir)
	if err != nil {
		return ""
	}
	switch left, keep := d.free-reserved-g.sum(), l.keepFree(d); {
	case keep > 0 && left < keep:
		return ExpiredFree
	case left < otherFiles:
		return ExpiredFull
	}
	return ""
}

// usage is what the tape takes, and what sealing has yet to write.
func (w *Writer) usage() (bytes, reserved int64) {
	if time.Since(w.otherMeasured) > otherEvery {
		w.otherMeasured = time.Now()
		other := w.measureOther()
		w.mu.Lock()
		w.catalog.other = other
		w.mu.Unlock()
	}
	w.mu.Lock()
	bytes, reserved = w.catalog.bytes()
	w.mu.Unlock()
	if w.seg != nil {
		bytes += w.seg.bytes()
	}
	return bytes, reserved
}

// otherEvery is how often files that are no segments are looked at.
const otherEvery = 10 * time.Second

// roomForSegments removes the oldest segments when so many more would be more
// than a reader can attach.
func (w *Writer) roomForSegments(more int) {
	for {
		w.mu.Lock()
		n := len(w.catalog.list)
		w.mu.Unlock()
		if n+more <= maxAttached || !w.expireOldest(ExpiredCount) {
			return
		}
	}
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

// expireOldest removes the oldest stored segment. It reports whether there is
// more room now.
func (w *Writer) expireOldest(why string) bool {
	s := w.takeOldest()
	if s == nil {
		return false
	}
	e := SegmentExpired{Segment: s.number, File: segmentName(s.number), SHA256: s.sha, Bytes: s.bytes, From: s.from, To: s.to, Why: why}
	w.tell(e)
	err := w.unlink(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		s.settle(aside)
		s.stuck = true
		w.log.Error("segment not removed", "path", s.path, "error", err)
		return true // that it did not work for this one does not mean that it does for none
	}
	w.catalog.remove(s)
	if why == ExpiredFree || why == ExpiredFull {
		w.removed = append(w.removed, s)
	}
	w.log.Info("segment removed", "path", s.path, "why", why, "bytes", s.bytes)
	return true
}

// takeOldest returns the oldest stored segment, of which the keeper has let go,
// and will not touch it again.
func (w *Writer) takeOldest() *stored {
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

// unlink removes the files of a segment. A connection to it that is still open
// is given up first: closing it would write.
func (w *Writer) unlink(s *stored) error {
	if err := clearImmutable(s.path); err != nil {
		w.log.Warn("immutable flag not cleared", "path", s.path, "error", err)
	}
	err := removeFiles(s.path)
	if w.o.Immutable {
		w.guardHeld(s.number)
	}
	if s.seg != nil {
		s.seg.conn.Close() // of files that have no name any more
		s.seg = nil
		w.aside = slices.DeleteFunc(w.aside, func(o *segment) bool { return o.number == s.number })
	}
	return err
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
	return w.expireOldest(ExpiredFull)
}

// tellRemoved writes into s, as gaps, what was removed before its time because
// the disk was full.
func (w *Writer) tellRemoved(s *segment) error {
	for _, r := range w.removed {
		var from, to any
		if r.from != 0 && r.to != 0 {
			from, to = r.from-s.wallStep, r.to-s.wallStep
		}
		err := s.putGapAt(from, to, CauseFull, 0, segmentName(r.number)+" was removed before its time: the disk was full")
		if err != nil {
			return err
		}
	}
	return nil
}
