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

// The reserve is the space that the tape may take but does not use yet, allocated in files so that nobody else takes it.
// It shrinks as segments grow, and grows after removals and sealing. It is empty of data: a killed recorder only leaves
// a reserve of another size, which the next one corrects if the disk has room.
//
// Most of it is slots: files as long as a full segment, renamed to become one (see slots). The rest, less than a slot,
// is handed over by freeing it, and other processes filling the disk may be faster. On file systems that keep blocks for
// root (ext4) they gain nothing: the recorder writes to root's blocks, and its next freeing refills them first.
// Elsewhere the reserve shrinks by what they took.

// reserveName is the file of the rest. All files of the reserve have this prefix.
const reserveName = tapedir.ReserveName

// reserveStep is the largest growth of the reserve at once, in bytes.
const reserveStep = 64 << 20

// rootShare is the share of a tape's size that a file system must keep for root, so that the handed-over space is always
// there: a tenth.
const rootShare = 10

type reserve struct {
	mu   sync.Mutex // held while the size changes; taken before Writer.mu
	dir  string     // of the tape; "": no reserve
	rest *os.File   // nil: none now
	size int64      // of the rest and the free slots, bytes
	full bool       // the disk had no room for more, which was logged
	step func(name string)
	slots
}

// errNoReserve says that a file system cannot reserve room.
var errNoReserve = errors.New("files in memory would take it from the host's")

// openReserve finds or makes the reserve, or removes an unwanted one.
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

// canReserve returns nil if the file system can reserve space. It cannot if it is in memory, or writes every block to a
// new place.
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

// find finds the reserve of earlier recorders.
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
	if retain.BlocksOf(info) < n || r.slot > 0 && n >= r.slot { // a copy, or from a tape of another size
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

// openRest opens or makes the rest.
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

// resize changes the reserve to this size, as far as the disk allows. The caller holds r.mu.
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
			return errors.Join(err, r.rest.Truncate(r.restSize())) // it may have got a part
		}
		if r.slot > 0 && r.restSize() == r.slot {
			if err := r.makeSlot(); err != nil {
				return err
			}
		}
	}
	return nil
}

// adjustReserve resizes the reserve to the tape's unused room, minus the needs of the batch being written and the
// segment being sealed.
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
	slack := max(retain.OtherFiles, room/256) // so that it does not change with every batch
	if r.slot > 0 {
		slack = retain.OtherFiles / 4 // few do, and others may take freed space
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

// fillReserve fills the reserve when no recorder runs, so that the next one has all of the room even if the disk fills
// up.
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

// releaseReserve frees this much of the reserve for a write. It reports whether there was any.
func (w *Writer) releaseReserve(bytes int64) bool {
	r := &w.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == "" || r.size == 0 {
		return false
	}
	return r.resize(r.size-bytes) == nil
}

// withRoom runs do, and again after freeing reserve if the disk is full: other processes may take the freed space first.
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
