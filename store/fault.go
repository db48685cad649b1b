package store

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// The writer's reaction to faults of a file or the disk.

// setAside quarantines the active segment.
func (w *Writer) setAside(cause error) {
	w.log.Error("segment set aside", "path", w.seg.path, "error", cause)
	w.leave(w.seg)
	w.last.number, w.last.batches = w.seg.number, w.seg.batches
	w.tell(SegmentSetAside{Segment: w.seg.number, File: tapedir.SegmentName(w.seg.number), Batches: w.seg.batches, Cause: cause.Error()})
	w.seg = nil
}

// leave keeps a quarantined segment open until it is removed or the process ends.
func (w *Writer) leave(s *activeSegment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.aside = append(w.aside, s)
	w.catalog.active.bytes, w.catalog.active.closed = 0, 0
	w.catalog.add(&stored{number: s.number, path: s.path, bytes: s.bytes(), closed: s.pages * pageSize, from: s.created + s.wallStep,
		to: s.heartbeat + s.wallStep, tally: s.tally, state: aside, seg: s})
}

// moveOn writes the batch into a new segment, with a gap for the reason.
func (w *Writer) moveOn(batch *Batch, state string, cause error) error {
	for {
		seg, err := w.createWith(batch, state, cause)
		if err == nil {
			w.seg = seg
			w.noteActive()
			w.written(batch)
			return nil
		}
		if !w.diskIsFull(err) || !w.makeRoomOnDisk() {
			return err
		}
	}
}

// createWith begins a segment with the batch.
func (w *Writer) createWith(batch *Batch, state string, cause error) (*activeSegment, error) {
	now, err := w.now("start")
	if err != nil {
		return nil, &failure.Error{Op: "begin segment", Path: w.dir, Err: err}
	}
	seg, err := w.create(now, w.counted, ReasonFault, func(s *activeSegment) error {
		return s.putGapAt(s.created, s.created, segment.CauseStorage, 0,
			fmt.Sprintf("%s was set aside: %v", tapedir.SegmentName(w.last.number), cause))
	})
	if err != nil {
		return nil, err
	}
	if err := seg.write(batch, state, w.tellRemoved); err != nil {
		w.discard(seg)
		return nil, &failure.Error{Op: "append batch", Path: seg.path, Err: err, Hint: storageHint(err)}
	}
	return seg, nil
}

// diskIsFull reports whether err means a full disk or an exhausted quota, so that removing segments may help. SQLite
// reports a quota as an I/O error. An exhausted thin volume claims to have room: there, removing everything would not
// help.
func (w *Writer) diskIsFull(err error) bool {
	if !isFull(err) && sqlite.ErrCode(err).ToPrimary() != sqlite.ResultIOErr {
		return false
	}
	d, derr := retain.ReadDisk(w.dir)
	return derr == nil && (d.Free < fullDisk || d.Files < fullFiles) || errors.Is(probe(w.dir), unix.EDQUOT)
}

// A disk with less space or fewer files than this is full.
const (
	fullDisk  = 16 << 20
	fullFiles = 16
)

// probe writes the size of a small segment to a file without a name. Suitable file systems charge a quota at the write.
// If only fsync fails, as on file systems that ask another host, removing segments may not help, and all would be
// removed in vain.
func probe(dir string) error {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, tapedir.BirthMode)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(make([]byte, retain.SealingFloor))
	return err
}

// storageHint returns the hint for a disk that refuses writes.
func storageHint(err error) string {
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull {
		return "the disk is full: make room, or put the tape elsewhere with --dir"
	}
	return "look for disk errors in the kernel log (dmesg)"
}

// storageFault reports whether err is a fault of the file and not of the request: an I/O error, a full disk, corruption,
// a lock of another process, a read-only file system. Such a file is not used again.
func storageFault(err error) bool {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultIOErr, sqlite.ResultFull, sqlite.ResultCorrupt, sqlite.ResultNotADB,
		sqlite.ResultReadOnly, sqlite.ResultCantOpen, sqlite.ResultBusy, sqlite.ResultLocked,
		sqlite.ResultProtocol, sqlite.ResultPerm, sqlite.ResultFormat, sqlite.ResultNotFound:
		return true
	}
	return false
}
