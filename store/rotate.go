package store

import (
	"errors"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// rotationPause is the pause after a failure to make a new segment.
const rotationPause = 10 * time.Second

// due returns the reason for closing the active segment before the batch, "" for none.
func (w *Writer) due(b *Batch) string {
	s := w.seg
	switch {
	case s.batches == 0:
		return ""
	case w.isFull(s):
		return ReasonSize
	case s.empty():
		return ""
	case w.o.Limits.MaxAge > 0 && b.Now != 0 && s.at(b.Now)-s.created >= int64(w.o.Limits.SegmentAge()):
		return ReasonAge
	}
	return ""
}

// isFull reports whether s is as large as one segment is to be. Without a limit
// there is nothing to share out.
func (w *Writer) isFull(s *activeSegment) bool {
	room := w.room()
	return room > 0 && s.pages*pageSize+w.leastPart() >= w.closing(room)
}

// closing is how large an active segment may become: so that it fits into a slot when
// it is sealed.
func (w *Writer) closing(room int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.catalog.slot == 0 {
		return retain.SegmentBytes(room)
	}
	return w.catalog.slot / 100 * 100 / (w.grows + sealedMargin) * 100
}

// leastPart is what may be left of a segment when it is closed: no transaction is made
// smaller than that for its sake.
func (w *Writer) leastPart() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.catalog.slot / 16
}

// rotateIfDue closes the active segment when it is time to. That it did not work
// is no reason not to record.
func (w *Writer) rotateIfDue(b *Batch) {
	reason := w.due(b)
	if reason == "" || time.Since(w.rotationFailed) < rotationPause {
		return
	}
	if err := w.rotate(reason); err != nil {
		w.rotationFailed = time.Now()
		w.log.Error("segment not rotated", "path", w.seg.path, "error", err)
	}
}

// empty reports whether neither a connection nor a socket event was written to the segment yet. Such a segment
// is not closed for its age or on request: there is nothing in it to keep apart, and
// whoever asks again and again must not fill the tape with segments.
func (s *activeSegment) empty() bool { return s.rows.maxID == 0 && s.chainer.marks.Task == 0 }

// isEmpty reports whether the file of a segment is known to have neither.
func (w *Writer) isEmpty(path string) bool {
	some := false
	err := segment.Peek(w.patience, path, func(conn *sqlite.Conn) error {
		return segment.Exec(conn, func(*sqlite.Stmt) error { some = true; return nil }, `SELECT 1 WHERE EXISTS (SELECT 1 FROM connection) OR EXISTS (SELECT 1 FROM event)`)
	})
	return err == nil && !some
}

// Rotate closes the active segment and begins the next. The old one is sealed in
// the background. A segment without connections stays as it is.
func (w *Writer) Rotate() error {
	_, err := w.rotateNow()
	return err
}

// RotateAndSeal is Rotate, and waits until the closed segments are sealed, which somebody waits for and is not done at the lowest priority
// therefore. A segment that cannot be sealed is an error.
func (w *Writer) RotateAndSeal() error {
	w.awaited.Add(1)
	defer w.awaited.Add(-1)
	if err := w.Rotate(); err != nil {
		return err
	}
	w.hasten(func(*stored) bool { return true })
	w.waitForKeeper(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.catalog.list {
		if s.state == unsealed {
			return &failure.Error{Op: "seal segment", Path: s.path, Err: errors.New("it is not sealed yet"), Hint: storageHint(nil)}
		}
	}
	return nil
}

// rotateNow is Rotate, and returns the file name of the old segment, "" when there
// was nothing to close.
func (w *Writer) rotateNow() (file string, err error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	switch {
	case w.closed:
		return "", &failure.Error{Op: "rotate tape", Path: w.dir, Err: failure.ErrClosed}
	case w.seg == nil:
		return "", &failure.Error{Op: "rotate tape", Path: w.dir, Err: errors.New("there is no segment to close"), Hint: storageHint(nil)}
	}
	if w.seg.empty() {
		return "", nil
	}
	file = tapedir.SegmentName(w.seg.number)
	if err := w.rotate(ReasonRequest); err != nil {
		return "", err
	}
	w.makeRoom(growth{})
	w.wakeKeeper()
	return file, nil
}

// rotate makes the next segment the active one, and hands the one before to the
// keeper.
func (w *Writer) rotate(reason string) error {
	now, err := w.now("start")
	if err != nil {
		return &failure.Error{Op: "begin segment", Path: w.dir, Err: err}
	}
	old, last := w.seg, w.last
	w.last.number, w.last.batches = old.number, -1 // all of its commits count
	if err := w.detachWAL(old); err != nil {
		return err
	}
	seg, err := w.create(now, w.counted, reason, nothingMore)
	if err != nil {
		w.last = last
		return errors.Join(err, w.attachWAL(old))
	}
	w.seg = seg
	closed := w.handOver(old)
	w.noteActive()
	if wait := w.sealsAfter(); wait > 0 && reason != ReasonRequest {
		w.mu.Lock()
		closed.notBefore = time.Now().Add(wait)
		w.mu.Unlock()
	}
	w.remember()
	return nil
}

// handOver gives a segment that takes no more batches to the keeper, which is to
// be woken once there is room for what it does. Its WAL goes at once: many may wait.
func (w *Writer) handOver(s *activeSegment) *stored {
	var err error
	if s.conn != nil {
		err = s.emptyWAL()
	}
	closed := &stored{number: s.number, path: s.path, bytes: s.bytes(), closed: s.pages * pageSize,
		from: s.created + s.wallStep, to: s.heartbeat + s.wallStep, tally: s.tally, seg: s}
	if err != nil && !isFull(err) && !isBusy(err) { // all of it is in the WAL
		w.log.Error("segment not closed", "path", s.path, "error", err)
		closed.state = aside
		w.tell(SegmentSetAside{Segment: s.number, File: tapedir.SegmentName(s.number), Batches: -1, Cause: err.Error()})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if closed.state == aside {
		w.aside = append(w.aside, s)
	}
	w.catalog.active.bytes, w.catalog.active.closed = 0, 0
	w.catalog.add(closed)
	return closed
}

// clockOf returns the offset of a new segment's clock from CLOCK_BOOTTIME, and
// how far the wall clock is from it before the first anchor. Within one boot the
// offset never falls, so that a clock that is set back cannot put what comes
// later before what came earlier. But a boot that had to begin later than its
// clock said, because the one before had a clock that was ahead, does not pass
// that on.
func (w *Writer) clockOf(now Anchor) (offset, wallStep int64) {
	offset = now.Real - int64(now.Boot)
	if w.clock.boot != w.o.BootID {
		return offset, 0
	}
	was := w.clock.offset + w.clock.wallStep // wall clock minus boottime, as last known
	offset = max(offset, w.clock.floor)
	return offset, was - offset
}
