package store

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A reader that has a segment open when retention removes it keeps its blocks: whoever
// opens all segments and waits could make the tape twice as large, or take its room on
// a full disk. So it may finish what it reads, but for pinnedPatience at the most, and
// only while there is room: then the file is cut. The reader finds pages that are not
// there, by the checksums of pages or as damage, and says so.

// pinnedPatience is for how long a reader may keep a segment that was removed.
const pinnedPatience = time.Minute

// pinned is a file that has no name any more, and that somebody else has open.
type pinned struct {
	file  *os.File
	bytes int64
	since time.Time
}

// openPinned opens the file of a segment that is being removed, if somebody else has
// it open. A legal hold is another name of the file: that is left alone.
func openPinned(path string) *pinned {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	info, err := file.Stat()
	if err == nil && inUse(file) {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink == 1 && info.Mode().IsRegular() {
			return &pinned{file, allocated(info), time.Now()}
		}
	}
	file.Close()
	return nil
}

// inUse reports whether somebody else has a file open: then nobody gets a lease on it
// for writing.
func inUse(file *os.File) bool {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	if err == nil {
		unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
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
	w.catalog.pinned = slices.DeleteFunc(w.catalog.pinned, func(p *pinned) bool {
		if inUse(p.file) {
			if !needed && time.Since(p.since) < pinnedPatience {
				return false
			}
			w.log.Warn("a segment that was removed is cut under its reader", "bytes", p.bytes)
			if err := p.file.Truncate(0); err != nil {
				w.log.Error("removed segment not cut", "error", err)
				return false
			}
		}
		p.file.Close()
		return true
	})
}
