package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// placeWAL gives a segment the spare WAL, if there is one.
func (w *Writer) placeWAL(path string) error {
	spare := filepath.Join(w.dir, spareWALName)
	if !tapedir.IsThere(spare) {
		w.mu.Lock()
		w.catalog.making += w.reserve.wal // see fillWAL
		w.mu.Unlock()
		w.adjustReserve()
		return nil
	}
	if err := writeStart(spare, make([]byte, pageSize), 0); err != nil {
		return err
	}
	w.step("spare WAL emptied")
	if err := os.Rename(spare, path+"-wal"); err != nil {
		return err
	}
	w.step("spare WAL placed")
	w.mu.Lock()
	w.catalog.making += w.catalog.spareWAL
	w.catalog.spareWAL = 0
	w.mu.Unlock()
	return tapedir.SyncDir(w.dir)
}

// spareWAL takes the WAL of a segment that writes no more batches, all of which is in
// its database, for the next one.
func (w *Writer) spareWAL(s *activeSegment) error {
	if !w.slotted() {
		return nil
	}
	spare, wal := filepath.Join(w.dir, spareWALName), s.path+"-wal"
	if err := s.query(nil, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return err
	}
	if err := os.Link(wal, spare); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep WAL: %w", failure.Bare(err))
	}
	w.step("WAL linked")
	return nil
}

// countSpareWAL notes what the spare WAL takes. The segment that had it has none.
func (w *Writer) countSpareWAL() {
	bytes := retain.AllocatedAt(filepath.Join(w.dir, spareWALName))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog.spareWAL = bytes
}

// detachWAL closes a segment that takes no more batches, and keeps its WAL for the next
// one. What little is still written to it opens it again, see reopen.
func (w *Writer) detachWAL(s *activeSegment) error {
	if !w.slotted() {
		return nil
	}
	err := w.spareWAL(s)
	if err == nil {
		err = s.measure()
	}
	if err == nil {
		err = segment.CloseConn(s.conn)
	}
	if err == nil {
		w.step("WAL detached")
		s.conn, s.walPages, s.walSize = nil, 0, 0
		err = tapedir.SyncDir(w.dir) // its WAL has no second name any more
	}
	if err != nil {
		return fmt.Errorf("leave WAL: %w", err)
	}
	s.taken = retain.AllocatedAt(s.path)
	spare := retain.AllocatedAt(filepath.Join(w.dir, spareWALName))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog.spareWAL, w.catalog.active.bytes = spare, s.bytes()
	return nil
}

// fillWAL gives the WAL of the active segment its full length.
func (w *Writer) fillWAL(s *activeSegment) {
	if !w.slotted() {
		return
	}
	if err := fallocateFile(s.path+"-wal", w.reserve.wal); err != nil {
		w.log.Warn("the disk has no room for the WAL of a segment", "path", s.path, "error", err)
	}
}

// attachWAL takes detachWAL back.
func (w *Writer) attachWAL(s *activeSegment) error {
	if s.conn != nil {
		return nil
	}
	if err := w.placeWAL(s.path); err != nil {
		return fmt.Errorf("use WAL again: %w", err)
	}
	if err := s.reopen(); err != nil {
		return err
	}
	w.fillWAL(s)
	return w.boundWAL(s)
}

// boundWAL bounds the WAL of the active segment.
func (w *Writer) boundWAL(s *activeSegment) error {
	length := int64(0)
	if w.slotted() {
		length = w.reserve.wal
	}
	return s.boundWAL(retain.WALBytes(w.room()), length)
}
