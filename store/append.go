package store

import (
	"cmp"
	"errors"
	"slices"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
)

// Append writes a batch and returns when it is on the disk: as one transaction, or
// as several when it is large for the size of the tape. With an error that is
// [PartlyWritten] the first of them are on the disk.
//
// Before each, it closes the segment when that is due, and removes the oldest ones so
// that the tape does not become too large. When the disk is full all the same, the
// oldest segments go until the batch fits, with gap rows of cause "full".
//
// When the file is at fault (I/O error, failed sync, corruption) it is not touched
// again: the batch goes to a new segment, with a gap row of cause "storage" that
// says why. Only when that fails too is there an error; the batch is then not
// written, and the next Append tries again. An error that is not the file's leaves
// the segment as it was before the batch.
func (w *Writer) Append(batch Batch) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	if w.closed {
		return &failure.Error{Op: "append batch", Path: w.dir, Err: failure.ErrClosed}
	}
	slices.SortStableFunc(batch.Endings, func(a, b Ending) int { return cmp.Compare(a.Connect, b.Connect) })
	slices.SortStableFunc(batch.Namings, func(a, b Naming) int { return cmp.Compare(a.Connect, b.Connect) })
	written := Part{}
	for {
		part, rest, more := w.next(&batch, segment.StateActive)
		if err := w.append(&part, segment.StateActive); err != nil {
			if written != (Part{}) {
				return &PartlyWritten{Part: written, Err: err}
			}
			return err
		}
		if !more {
			return nil
		}
		written.Connections += len(part.Connections)
		written.Endings += len(part.Endings)
		written.Namings += len(part.Namings)
		written.Sockets += len(part.Sockets)
		batch = rest
	}
}

// append writes what one transaction holds, for which there is room.
func (w *Writer) append(batch *Batch, state string) error {
	if w.seg == nil {
		return w.moveOn(batch, state, errors.New("no segment could be written before"))
	}
	err := w.seg.write(batch, state, w.tellRemoved)
	for isFull(err) && w.diskIsFull(err) && w.makeRoomOnDisk() {
		err = w.seg.write(batch, state, w.tellRemoved)
	}
	if err == nil {
		w.written(batch)
		w.giveOutcomes()
		if err := w.seg.checkpoint(); err != nil && !isFull(err) {
			w.setAside(err) // the batch is safe; the next one goes elsewhere
		}
		w.noteActive()
		return nil
	}
	switch {
	case isFull(err) || !storageFault(err):
		return &failure.Error{Op: "append batch", Path: w.seg.path, Err: err, Hint: storageHint(err)}
	default:
		w.setAside(err)
	}
	return w.moveOn(batch, state, err)
}

// written notes that a batch is on the disk in the active segment.
func (w *Writer) written(batch *Batch) {
	w.mu.Lock()
	w.removed = nil
	w.mu.Unlock()
	w.remember()
	w.tellBatch(batch)
}

// next does what is due before a batch is written, and returns what is to be written
// first, and what then, if there is more. The last batch goes to the segment that
// there is: a segment that is begun to hold nothing but its end helps nobody.
func (w *Writer) next(batch *Batch, state string) (part, rest Batch, more bool) {
	for _, a := range batch.Anchors {
		w.synchronized = a.Sync == syncedClock
	}
	if w.seg == nil {
		return *batch, Batch{}, false
	}
	if state == segment.StateActive {
		w.rotateIfDue(batch)
	}
	part, rest, g, more := w.split(batch)
	w.makeRoom(g)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seg.previousHash == nil && w.hashed.number != 0 && w.hashed.number == w.seg.previous {
		w.seg.previousHash = w.hashed.sha[:]
	}
	w.wakeKeeper()
	return part, rest, more
}

// tellBatch says that the batch is on the disk.
func (w *Writer) tellBatch(batch *Batch) {
	w.tell(BatchCommitted{Segment: w.seg.number, Number: w.seg.batches, Batch: batch, Gaps: w.seg.gaps, Chain: w.seg.chainer.chain, Now: uint64(w.seg.heartbeat - w.seg.offset)})
}

// remember keeps what a new segment must be told about the last commit.
func (w *Writer) remember() {
	w.counted, w.told = w.seg.counted, w.seg.told
	w.last.number, w.last.batches = w.seg.number, w.seg.batches
	w.rememberClock(w.seg)
}

// rememberClock keeps what the clock of the next segment goes by.
func (w *Writer) rememberClock(s *activeSegment) {
	w.clock.boot, w.clock.offset, w.clock.floor, w.clock.wallStep = s.bootID, s.offset, s.floor, s.wallStep
}
