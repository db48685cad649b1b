package retain

import (
	"errors"
	"os"
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

// Pinned is a file that has no name any more, and that somebody else has open.
type Pinned struct {
	file  *os.File
	Bytes int64
	since time.Time
}

// OpenPinned opens the file of a segment that is being removed, if somebody else has
// it open. A legal hold is another name of the file: that is left alone.
func OpenPinned(path string) *Pinned {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	info, err := file.Stat()
	if err == nil && inUse(file) {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink == 1 && info.Mode().IsRegular() {
			return &Pinned{file, Allocated(info), time.Now()}
		}
	}
	file.Close()
	return nil
}

// lease takes a lease on a file for writing, which nobody gets while somebody else has
// it open: then the error is EAGAIN. It ends with the descriptor.
func lease(file *os.File) error {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	return err
}

// Unused reports whether the kernel is sure that nobody has a file open.
func Unused(path string) bool {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	return lease(file) == nil
}

// inUse reports whether the kernel is sure that somebody else has a file open.
func inUse(file *os.File) bool {
	err := lease(file)
	if err == nil {
		unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}

// Release lets go of the file if nobody has it open any more, and cuts it if it was kept for too long, or its room is
// needed. It reports what it did.
func (p *Pinned) Release(needed bool) (gone, isCut bool, err error) {
	if inUse(p.file) {
		if !needed && time.Since(p.since) < pinnedPatience {
			return false, false, nil
		}
		if err := p.file.Truncate(0); err != nil {
			return false, true, err
		}
		isCut = true
	}
	p.file.Close()
	return true, isCut, nil
}
