package store

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/tapedir"
)

// What retention takes off the tape gets another name at once, and is removed by a
// goroutine of low priority: freeing a file takes a file system some 0.2 ms a MiB,
// which no batch is to wait for. Its files count until they are gone.

// expired is a segment that is no part of the tape any more, and not gone yet.
type expired struct {
	number int
	path   string         // that it had
	bytes  int64          // of its files
	seg    *activeSegment // still open: its blocks are freed when it is closed; nil it is not
	stuck  bool           // it could not be removed
}

// takeAway ends that s is a segment of the tape. Its other files keep their names:
// without the first they mean nothing.
func (w *Writer) takeAway(s *stored) (*expired, error) {
	if err := tapedir.ClearImmutable(s.path); err != nil {
		w.log.Warn("immutable flag not cleared", "path", s.path, "error", err)
	}
	e := &expired{number: s.number, path: s.path, bytes: s.bytes, seg: s.seg}
	if e.seg != nil && e.seg.conn == nil {
		e.seg = nil
	}
	if err := os.Rename(s.path, s.path+tapedir.ExpiringSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return e, nil
}

// removeLater has e removed in the background. The caller holds w.mu.
func (w *Writer) removeLater(e *expired) {
	w.catalog.expired = append(w.catalog.expired, e)
	if w.removing == nil {
		w.removing = make(chan struct{})
		go w.removeExpired()
	}
}

// removeExpired removes what has expired, and ends when nothing is left of it.
// Sealing, which needs the room, waits for that.
func (w *Writer) removeExpired() {
	lowerPriority()
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		i := slices.IndexFunc(w.catalog.expired, func(e *expired) bool { return !e.stuck })
		if i < 0 {
			break
		}
		e := w.catalog.expired[i]
		w.mu.Unlock()
		err := w.remove(e)
		w.mu.Lock()
		if err != nil {
			e.stuck = true
			w.log.Error("segment not removed", "path", e.path+tapedir.ExpiringSuffix, "error", err)
		} else {
			w.catalog.expired = slices.DeleteFunc(w.catalog.expired, func(o *expired) bool { return o == e })
			w.log.Info("segment removed", "path", e.path, "bytes", e.bytes)
		}
		close(w.removing) // for those who wait for room
		w.removing = make(chan struct{})
		w.mu.Unlock()
		w.adjustReserve()
		w.mu.Lock()
	}
	close(w.removing)
	w.removing = nil
	w.wakeKeeper()
}

// remove removes the files of a segment. A connection to it that is still open is
// given up last: closing it writes.
func (w *Writer) remove(e *expired) error {
	var p *retain.Pinned
	if e.seg == nil {
		p = retain.OpenPinned(e.path + tapedir.ExpiringSuffix)
	}
	var err error
	if recycled := e.seg == nil && p == nil && w.recycle(e); !recycled {
		err = retain.RemoveFiles(e.path)
	}
	if p != nil {
		w.mu.Lock()
		w.catalog.pinned = append(w.catalog.pinned, p)
		w.mu.Unlock()
	}
	if w.o.Immutable {
		w.guardHeld(e.number)
	}
	if e.seg != nil {
		e.seg.conn.Close() // of files that have no name any more
		e.seg = nil
	}
	return err
}

// waitForRemovals waits until nothing that has expired is left, unless it cannot be
// removed.
func (w *Writer) waitForRemovals() { w.waitWhile(func() bool { return true }) }

// waitWhile waits for what has expired to be removed, one segment after the other,
// while there is not enough room.
func (w *Writer) waitWhile(tooLittle func() bool) {
	for {
		w.mu.Lock()
		removing := w.removing
		w.mu.Unlock()
		if removing == nil || !tooLittle() {
			return
		}
		<-removing
	}
}
