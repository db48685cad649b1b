package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/tapedir"
)

// The reserve is what the tape may take and does not yet, set aside in files: so that
// nobody else's files can have it. It shrinks as the segments grow, and grows when
// one is removed or sealing is done. It holds nothing, so a recorder that is killed
// at any moment leaves no more than a reserve of another size, which the next one
// sets right if the disk has room.
//
// Most of it is in slots: files as long as a segment becomes. What becomes a segment
// gets the name of one, see slots. The rest, of less than a slot, is handed over by
// freeing it, and others who fill the disk may be quicker than who needs it. On file
// systems that keep blocks for root (ext4) they win nothing by that: what the recorder
// writes then comes out of these blocks, and what it frees next fills them up before
// anybody else gets any. Elsewhere the reserve becomes smaller by what they got.

// reserveName is the name of the rest of the reserve in a tape. Every file of the
// reserve has a name that begins with it.
const reserveName = tapedir.ReserveName

// reserveStep is the most that the reserve grows by at once, bytes.
const reserveStep = 64 << 20

// rootShare is how much of the size of a tape a file system must keep for root, so
// that what is handed over is always there: a 10th.
const rootShare = 10

type reserve struct {
	mu   sync.Mutex // held while its size changes; taken before Writer.mu
	dir  string     // of the tape; "": nothing is reserved
	rest *os.File   // nil: there is none now
	size int64      // of the rest and the free slots, bytes
	full bool       // the disk had no room for more, and that was said
	step func(name string)
	slots
}

// errNoReserve says that a file system cannot reserve room.
var errNoReserve = errors.New("files in memory would take it from the host's")

// openReserve finds or makes the reserve, or removes the one that is not wanted any
// more.
func (w *Writer) openReserve() {
	r := &w.reserve
	if !w.o.Limits.Reserve {
		if err := removeReserve(w.dir); err != nil {
			w.log.Warn("reserve not removed", "path", w.dir, "error", err)
		}
		return
	}
	if err := canReserve(w.dir); err != nil {
		w.log.Warn("the room of the tape cannot be reserved here: others who fill the disk can cost history", "path", w.dir, "error", err)
		return
	}
	r.dir, r.step = w.dir, w.step
	r.plan(w.o.Limits.MaxBytes, w.room())
	if err := r.find(); err != nil {
		w.log.Warn("the room of the tape cannot be reserved: others who fill the disk can cost history", "path", w.dir, "error", err)
		r.dir = ""
		return
	}
	if d, err := retain.ReadDisk(w.dir); err == nil && r.slot == 0 && d.ForRoot < w.o.Limits.MaxBytes/rootShare {
		w.log.Warn("the tape is too small to be reserved in slots, and the file system keeps few blocks for root: others who fill the disk can cost history",
			"path", w.dir, "kept", d.ForRoot, "wanted", w.o.Limits.MaxBytes/rootShare)
	}
}

// removeReserve removes all files of a reserve.
func removeReserve(dir string) (err error) {
	names, gerr := filepath.Glob(filepath.Join(dir, reserveName+"*"))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return errors.Join(gerr, err)
}

// canReserve returns nil on a file system that can reserve room: not one that takes it
// from memory, nor one that writes each block to a new place.
func canReserve(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	switch int64(st.Type) & 0xffffffff {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return errNoReserve
	case unix.BTRFS_SUPER_MAGIC:
		return errors.New("btrfs writes to new blocks, also where room was reserved")
	}
	fd, err := unix.Open(filepath.Join(dir, reserveName), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, tapedir.BirthMode)
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, pageSize); err != nil && !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("reserve room: %w", err)
	}
	return nil
}

// find finds what earlier recorders have reserved.
func (r *reserve) find() error {
	if err := r.findSlots(); err != nil {
		return err
	}
	info, err := os.Lstat(r.path(reserveName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = r.openRest()
	}
	if err != nil {
		return err
	}
	n := info.Size()
	if retain.BlocksOf(info) < n || r.slot > 0 && n >= r.slot { // a copy, or of a tape of another size
		n = 0
		if err := r.rest.Truncate(0); err != nil {
			return err
		}
	}
	r.size += n
	return nil
}

// path is that of a file of the reserve.
func (r *reserve) path(name string) string { return filepath.Join(r.dir, name) }

// openRest opens the rest, or makes it.
func (r *reserve) openRest() error {
	if r.rest != nil {
		return nil
	}
	fd, err := unix.Open(r.path(reserveName), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, tapedir.BirthMode)
	if err != nil {
		return fmt.Errorf("open reserve: %w", err)
	}
	r.rest = os.NewFile(uintptr(fd), reserveName)
	return nil
}

// restSize is the length of the rest, bytes.
func (r *reserve) restSize() int64 { return r.size - int64(len(r.free))*r.slot }

// resize makes the reserve that large, or as large as the disk allows. The caller
// holds r.mu.
func (r *reserve) resize(to int64) error {
	to = max(0, to) / pageSize * pageSize
	if to < r.size {
		return r.shrink(to)
	}
	return r.grow(to)
}

func (r *reserve) shrink(to int64) error {
	for r.size > to {
		if r.restSize() == 0 {
			if err := r.breakSlot(); err != nil {
				return err
			}
		}
		n := min(r.size-to, r.restSize())
		if err := r.rest.Truncate(r.restSize() - n); err != nil {
			return err
		}
		r.size -= n
		r.step("reserve shrunk")
	}
	return nil
}

func (r *reserve) grow(to int64) error {
	for step := int64(reserveStep); r.size < to; {
		if err := r.openRest(); err != nil {
			return err
		}
		n := min(step, to-r.size)
		if r.slot > 0 {
			n = min(n, r.slot-r.restSize())
		}
		err := unix.Fallocate(int(r.rest.Fd()), 0, r.restSize(), n)
		switch {
		case err == nil:
			r.size += n
			r.step("reserve grown")
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSPC) && n > reserveStep/64:
			step = n / 2
		default:
			return errors.Join(err, r.rest.Truncate(r.restSize())) // it may have got some of it
		}
		if r.slot > 0 && r.restSize() == r.slot {
			if err := r.makeSlot(); err != nil {
				return err
			}
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
	if r.dir == "" {
		return
	}
	w.mu.Lock()
	w.lookAround()
	u, room := w.catalog.usage(), w.catalog.room
	w.mu.Unlock()
	slack := max(retain.OtherFiles, room/256) // so that not every batch changes it
	if r.slot > 0 {
		slack = retain.OtherFiles / 4 // few do, and others may take what is freed
	}
	most := max(0, room-u.kept-u.expired-u.sealing-u.growing-retain.OtherFiles)
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
	if r.dir == "" {
		return
	}
	w.mu.Lock()
	room := w.catalog.room
	w.mu.Unlock()
	all, _ := retain.Measure(w.dir)
	if err := r.resize(room - (all - r.size) - retain.OtherFiles); err != nil && !errors.Is(err, unix.ENOSPC) {
		w.log.Error("reserve not changed", "path", w.dir, "error", err)
	}
}

// releaseReserve gives so much of the reserve to the file system, for what must be
// written now. It reports whether there was any.
func (w *Writer) releaseReserve(bytes int64) bool {
	r := &w.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == "" || r.size == 0 {
		return false
	}
	return r.resize(r.size-bytes) == nil
}

// withRoom does what takes little room, a few times if the disk is full: between giving
// it up and taking it others may come.
func (w *Writer) withRoom(do func() error) error {
	err := do()
	for try := 0; try < 8 && errors.Is(err, unix.ENOSPC) && w.releaseReserve(retain.OtherFiles/4); try++ {
		err = do()
	}
	return err
}

// closeReserve leaves the reserve to the next recorder.
func (w *Writer) closeReserve() {
	w.reserve.mu.Lock()
	defer w.reserve.mu.Unlock()
	if w.reserve.rest != nil {
		w.reserve.rest.Close()
		w.reserve.rest = nil
	}
	w.reserve.dir = ""
}
