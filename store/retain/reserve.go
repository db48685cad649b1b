package retain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/sqlitefile"
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

// reserveStep is the most that the reserve grows by at once, bytes.
const reserveStep = 64 << 20

// Reserve is the reserve of a tape that is recorded. It is safe for concurrent use.
type Reserve struct {
	mu   sync.Mutex // held while its size changes
	file *os.File   // nil: there is none
	size int64      // bytes
	full bool       // the disk had no room for more, and that was said
}

// errNoReserve says that a file system cannot reserve room.
var errNoReserve = errors.New("files in memory would take it from the host's")

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
	if err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, sqlitefile.PageSize); err != nil && !errors.Is(err, unix.ENOSPC) {
		file.Close()
		return nil, fmt.Errorf("reserve room: %w", err)
	}
	return file, nil
}

// measure notes how large the reserve is. A file whose blocks are not all there, which
// somebody copied, is begun anew.
func (r *Reserve) measure() {
	info, err := r.file.Stat()
	if err != nil {
		return
	}
	if r.size = info.Size(); BlocksOf(info) < r.size && r.file.Truncate(0) == nil {
		r.size = 0
	}
}

// BlocksOf is what the blocks of a file hold, bytes.
func BlocksOf(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return Allocated(info)
}

// resize makes the reserve that large, or as large as the disk allows. The caller
// holds r.mu.
func (r *Reserve) resize(to int64) error {
	if to = max(0, to) / sqlitefile.PageSize * sqlitefile.PageSize; to <= r.size {
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

// Open finds or makes the reserve. The error says why the file system cannot have one.
func (r *Reserve) Open(path string) error {
	file, err := makeReserve(path)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file = file
	r.measure()
	return nil
}

// ErrShort: the disk has no room for all of the reserve.
var ErrShort = errors.New("no room for all of the reserve")

// Change makes the reserve as large as want says, which is given its size, in bytes, or as large as the disk allows: then it
// returns errShort, once until there was room. Without a reserve it does nothing.
func (r *Reserve) Change(want func(size int64) int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	to := want(r.size)
	if to == r.size {
		return nil
	}
	err := r.resize(to)
	short, said := errors.Is(err, unix.ENOSPC), r.full
	r.full = short
	switch {
	case short && said:
		return nil
	case short:
		return ErrShort
	}
	return err
}

// Release gives so many bytes of the reserve to the file system. It reports whether there were any.
func (r *Reserve) Release(bytes int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil || r.size == 0 {
		return false
	}
	return r.resize(r.size-bytes) == nil
}

// Bytes returns the size of the reserve; ok: there is one.
func (r *Reserve) Bytes() (size int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size, r.file != nil
}

// Close leaves the reserve to the next recorder.
func (r *Reserve) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}
