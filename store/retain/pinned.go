package retain

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// When retention removes a segment that a reader has open, the reader keeps its blocks. A process that opens all
// segments and waits could double the tape's size, or take its room on a full disk. So a reader may finish, but only
// within pinnedPatience and while there is room. Then the file is truncated. The reader notices the missing pages, by
// page sums or as damage, and reports them.

// pinnedPatience limits the time that a reader may keep a removed segment.
const pinnedPatience = time.Minute

// Pinned is an unlinked file that another process has open.
type Pinned struct {
	file  *os.File
	Bytes int64
	since time.Time
}

// OpenPinned opens the file of a segment that is being removed, if another process has it open. It leaves a file under
// legal hold alone, which has another name.
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

// lease takes a write lease on a file. It fails with EAGAIN while another process has the file open. The lease ends with
// the descriptor.
func lease(file *os.File) error {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	return err
}

// Unused reports whether the kernel is sure that no process has the file open.
func Unused(path string) bool {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	return lease(file) == nil
}

// inUse reports whether the kernel is sure that another process has the file open.
func inUse(file *os.File) bool {
	err := lease(file)
	if err == nil {
		unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}

// Release releases the file if no other process has it open any more. It truncates the file if a reader kept it too long
// or its room is needed. It reports which it did.
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
