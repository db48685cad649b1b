package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/tapedir"
)

// openReserve finds or makes the reserve, or removes the one that is not wanted any
// more.
func (w *Writer) openReserve() {
	path := filepath.Join(w.dir, tapedir.ReserveName)
	if !w.o.Limits.Reserve {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("reserve not removed", "path", path, "error", err)
		}
		return
	}
	if err := w.reserve.Open(path); err != nil {
		w.log.Warn("the room of the tape cannot be reserved here: others who fill the disk can cost history", "path", w.dir, "error", err)
		return
	}
	if d, err := retain.ReadDisk(w.dir); err == nil && d.ForRoot < w.o.Limits.MaxBytes/rootShare {
		w.log.Warn("the file system keeps too few blocks for root: others who fill the disk get room of the tape although it is reserved, and that can cost history",
			"path", w.dir, "kept", d.ForRoot, "wanted", w.o.Limits.MaxBytes/rootShare)
	}
}

// rootShare is how much of the size of a tape a file system must keep for root, so
// that what is handed over is always there: a 10th.
const rootShare = 10

// adjustReserve makes the reserve as large as the tape leaves of its room, without what
// the batch that is being written and the segment that is being sealed may take.
func (w *Writer) adjustReserve() {
	var wanted int64
	err := w.reserve.Change(func(size int64) int64 { // before w.mu is taken
		w.mu.Lock()
		w.lookAround()
		u, room := w.catalog.usage(), w.catalog.room
		w.mu.Unlock()
		slack := max(retain.OtherFiles, room/256) // so that not every batch changes it
		most := max(0, room-u.kept-u.expired-u.sealing-u.growing-retain.OtherFiles)
		if size <= most && size >= most-2*slack {
			return size
		}
		wanted = most - slack
		return wanted
	})
	switch {
	case errors.Is(err, retain.ErrShort):
		size, _ := w.reserve.Bytes()
		w.log.Warn("the disk has no room for all of the tape", "reserved", size, "wanted", wanted)
	case err != nil:
		w.log.Error("reserve not changed", "path", w.dir, "error", err)
	}
}

// fillReserve makes the reserve as large as it may be while nobody records, so that the
// next recorder finds all of the room although others have filled the disk.
func (w *Writer) fillReserve() {
	err := w.reserve.Change(func(size int64) int64 {
		w.mu.Lock()
		room := w.catalog.room
		w.mu.Unlock()
		all, _ := retain.Measure(w.dir)
		return room - (all - size) - retain.OtherFiles
	})
	if err != nil && !errors.Is(err, retain.ErrShort) {
		w.log.Error("reserve not changed", "path", w.dir, "error", err)
	}
}
