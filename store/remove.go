package store

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// Retention renames a segment at once, and a goroutine of low priority removes it: freeing a file takes some 0.2 ms per
// MiB, and no batch should wait for that. Its files count until they are gone.

// expired is a segment removed from the tape but not from the disk yet.
type expired struct {
	number int
	path   string         // original path
	bytes  int64          // of its files
	seg    *activeSegment // still open: closing it frees the blocks; nil: closed
	stuck  bool           // it could not be removed
}

// takeAway removes s from the tape by renaming its database. The other files keep their names: alone they mean nothing.
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

// removeLater removes e in the background. The caller holds w.mu.
func (w *Writer) removeLater(e *expired) {
	w.catalog.expired = append(w.catalog.expired, e)
	if w.removing == nil {
		w.removing = make(chan struct{})
		go w.removeExpired()
	}
}

// removeExpired removes expired segments until none is left. Sealing waits for it, because it needs the room.
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

// remove removes a segment's files. It closes an open connection last, because closing writes.
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
		segment.CloseConn(e.seg.conn) // of files that have no name any more
		e.seg = nil
	}
	return err
}

// waitForRemovals waits until all expired segments are gone or cannot be removed.
func (w *Writer) waitForRemovals() { w.waitWhile(func() bool { return true }) }

// waitWhile waits for removals, segment by segment, while there is too little room.
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
