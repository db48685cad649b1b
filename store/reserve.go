package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/tapedir"
)

// The reserve is a file that takes what the tape may take and does not yet: so that
// nobody else's files can have it. It shrinks as the segments grow, and grows when
// one is removed or sealing is done. It holds nothing, so a recorder that is killed
// at any moment leaves no more than a reserve of another size, which the next one
// sets right if the disk has room.
//
// What is handed from the reserve to a segment is free for a moment, and others who
// fill the disk may be quicker. On file systems that keep blocks for root (ext4) they
// win nothing by that: what the recorder writes then comes out of these blocks, and
// what it frees next fills them up before anybody else gets any. Elsewhere the reserve
// becomes smaller by what they got, until there is none, and then history goes.

// reserveName is the name of the reserve in a tape.
const reserveName = "reserve"

// reserveStep is the most that the reserve grows by at once, bytes.
const reserveStep = 64 << 20

// rootShare is how much of the size of a tape a file system must keep for root, so
// that what is handed over is always there: a 10th.
const rootShare = 10

type reserve struct {
	mu   sync.Mutex // held while its size changes; taken before Writer.mu
	file *os.File   // nil: there is none
	size int64      // bytes
	full bool       // the disk had no room for more, and that was said
}

// errNoReserve says that a file system cannot reserve room.
var errNoReserve = errors.New("files in memory would take it from the host's")

// openReserve finds or makes the reserve, or removes the one that is not wanted any
// more.
func (w *Writer) openReserve() {
	path := filepath.Join(w.dir, reserveName)
	if !w.o.Limits.Reserve {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("reserve not removed", "path", path, "error", err)
		}
		return
	}
	file, err := makeReserve(path)
	if err != nil {
		w.log.Warn("the room of the tape cannot be reserved here: others who fill the disk can cost history", "path", w.dir, "error", err)
		return
	}
	w.reserve.file = file
	w.reserve.measure()
	if d, err := readDisk(w.dir); err == nil && d.forRoot < w.o.Limits.MaxBytes/rootShare {
		w.log.Warn("the file system keeps too few blocks for root: others who fill the disk get room of the tape although it is reserved, and that can cost history",
			"path", w.dir, "kept", d.forRoot, "wanted", w.o.Limits.MaxBytes/rootShare)
	}
}

// makeReserve opens the reserve on a file system that can reserve room: not one that
// takes it from memory, nor one that writes each block to a new place.
func makeReserve(path string) (*os.File, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &st); err != nil {
		return nil, err
	}
	switch int64(st.Type) & 0xffffffff {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return nil, errNoReserve
	case unix.BTRFS_SUPER_MAGIC:
		return nil, errors.New("btrfs writes to new blocks, also where room was reserved")
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, tapedir.BirthMode)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), path)
	if err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, pageSize); err != nil && !errors.Is(err, unix.ENOSPC) {
		file.Close()
		return nil, fmt.Errorf("reserve room: %w", err)
	}
	return file, nil
}

// measure notes how large the reserve is. A file whose blocks are not all there, which
// somebody copied, is begun anew.
func (r *reserve) measure() {
	info, err := r.file.Stat()
	if err != nil {
		return
	}
	if r.size = info.Size(); blocksOf(info) < r.size && r.file.Truncate(0) == nil {
		r.size = 0
	}
}

// blocksOf is what the blocks of a file hold, bytes.
func blocksOf(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return allocated(info)
}

// resize makes the reserve that large, or as large as the disk allows. The caller
// holds r.mu.
func (r *reserve) resize(to int64) error {
	if to = max(0, to) / pageSize * pageSize; to <= r.size {
		if err := r.file.Truncate(to); err != nil {
			return err
		}
		r.size = to
		return nil
	}
	for step := int64(reserveStep); r.size < to; {
		n := min(step, to-r.size)
		err := unix.Fallocate(int(r.file.Fd()), 0, r.size, n)
		switch {
		case err == nil:
			r.size += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSPC) && n > reserveStep/64:
			step = n / 2
		default:
			return errors.Join(err, r.file.Truncate(r.size)) // it may have got some of it
		}
	}
	return nil
}

// adjustReserve makes the reserve as large as the tape leaves of its room, without what
// the batch that is being written and the segment that is being sealed may take.
func (w *Writer) adjustReserve() {
	r := &w.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return
	}
	w.mu.Lock()
	w.lookAround()
	u, room := w.catalog.usage(), w.catalog.room
	w.mu.Unlock()
	slack := max(otherFiles, room/256) // so that not every batch changes it
	most := max(0, room-u.kept-u.expired-u.sealing-u.growing-otherFiles)
	if r.size <= most && r.size >= most-2*slack {
		return
	}
	err := r.resize(most - slack)
	short := errors.Is(err, unix.ENOSPC)
	switch {
	case err != nil && !short:
		w.log.Error("reserve not changed", "path", w.dir, "error", err)
	case short && !r.full:
		w.log.Warn("the disk has no room for all of the tape", "reserved", r.size, "wanted", most-slack)
	}
	r.full = short
}

// fillReserve makes the reserve as large as it may be while nobody records, so that the
// next recorder finds all of the room although others have filled the disk.
func (w *Writer) fillReserve() {
	r := &w.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return
	}
	w.mu.Lock()
	room := w.catalog.room
	w.mu.Unlock()
	all, _ := w.measureAll()
	if err := r.resize(room - (all - r.size) - otherFiles); err != nil && !errors.Is(err, unix.ENOSPC) {
		w.log.Error("reserve not changed", "path", w.dir, "error", err)
	}
}

// releaseReserve gives so much of the reserve to the file system, for what must be
// written now. It reports whether there was any.
func (w *Writer) releaseReserve(bytes int64) bool {
	r := &w.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil || r.size == 0 {
		return false
	}
	return r.resize(r.size-bytes) == nil
}

// closeReserve leaves the reserve to the next recorder.
func (w *Writer) closeReserve() {
	w.reserve.mu.Lock()
	defer w.reserve.mu.Unlock()
	if w.reserve.file != nil {
		w.reserve.file.Close()
		w.reserve.file = nil
	}
}
