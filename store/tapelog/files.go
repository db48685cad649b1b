package tapelog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// files is what the log does with its directory. Tests stand in for it with one
// that fails or loses what was not synced.
type files interface {
	// makeDir makes the directory unless it is there, durably.
	makeDir() error
	// list returns the names in the directory, sorted.
	list() ([]string, error)
	// create makes a new file and opens it; fs.ErrExist when there is one.
	create(name string) (file, error)
	// open opens a file for reading and writing, read for reading alone;
	// fs.ErrNotExist.
	open(name string) (file, error)
	read(name string) (file, error)
	// remove and rename change names; syncDir makes that durable, and what was
	// created before.
	remove(name string) error
	rename(from, to string) error
	syncDir() error
	// close lets go of the directory. It may be used again.
	close()
}

// file is one open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	size() (int64, error)
	// reserve sets so many bytes of disk aside for what is written from an offset on; the
	// file gets no longer. It reports whether it did. release gives back what is set aside
	// behind the end of the file.
	reserve(from, bytes int64) bool
	release(end int64)
}

// Modes of a log. Readers may see the parts and not the key.
const (
	dirMode  = 0o750
	partMode = 0o640
	keyMode  = 0o600
)

// directory is files in a real directory. It is opened once, and what is done to it
// is done to that one, wherever its path leads later.
type directory struct {
	path string
	// give hands a file or directory to the readers of the tape; nil: nobody.
	give func(path string, mode fs.FileMode) error

	dir *os.File // nil: not open yet
}

// openDir opens the directory unless it is open.
func (d *directory) openDir() (err error) {
	if d.dir == nil {
		d.dir, err = os.OpenFile(d.path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	}
	return err
}

// close closes the directory.
func (d *directory) close() {
	d.dir.Close() // only read from; an error says nothing
	d.dir = nil
}

// at returns a path of a file in the directory that is open.
func (d *directory) at(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.dir.Fd(), name)
}

// named puts the path that people know into an error.
func (d *directory) named(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && strings.HasPrefix(p.Path, "/proc/self/fd/") {
		p.Path = filepath.Join(d.path, filepath.Base(p.Path))
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		l.Old, l.New = filepath.Join(d.path, filepath.Base(l.Old)), filepath.Join(d.path, filepath.Base(l.New))
	}
	return err
}

type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) reserve(from, bytes int64) bool {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, bytes) == nil
}

func (f osFile) release(end int64) {
	_ = f.Truncate(end) // else it stays set aside
}

func (d *directory) makeDir() error {
	err := os.Mkdir(d.path, dirMode)
	made := err == nil
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = d.openDir()
	}
	if err != nil || !made {
		return err // a link here would lead us astray
	}
	if err := d.hand(d.path, dirMode); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(d.path))
}

func (d *directory) hand(path string, mode fs.FileMode) error {
	if d.give != nil {
		return d.named(d.give(path, mode))
	}
	return d.named(os.Chmod(path, mode)) // whatever the umask is
}

func (d *directory) list() ([]string, error) {
	if err := d.openDir(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.at("."))
	if err != nil {
		return nil, d.named(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	slices.Sort(names)
	return names, nil
}

func (d *directory) create(name string) (file, error) {
	f, err := os.OpenFile(d.at(name), os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, keyMode)
	if err != nil {
		return nil, d.named(err)
	}
	switch name {
	case keyName, newKeyName:
		rewriteInPlace(f)
	case newStableName: // nobody's but its owner's
	default:
		if err := d.hand(d.at(name), partMode); err != nil {
			f.Close()
			return nil, err
		}
	}
	return osFile{f}, nil
}

// rewriteInPlace asks the file system to write over the blocks of an empty file
// instead of writing new ones, so that an erased key is gone, and backups to
// leave it out. Where it cannot, docs/integrity.md says what that means.
func rewriteInPlace(f *os.File) {
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return
	}
	for _, flag := range []int{fsNoCopyOnWrite, fsNoDump} {
		if unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|flag) == nil {
			flags |= flag
		}
	}
}

// Flags of FS_IOC_SETFLAGS (linux/fs.h) that package unix does not have.
const (
	fsNoDump        = 0x00000040 // FS_NODUMP_FL
	fsNoCopyOnWrite = 0x00800000 // FS_NOCOW_FL
)

func (d *directory) open(name string) (file, error) { return d.openAs(name, os.O_RDWR) }

func (d *directory) read(name string) (file, error) { return d.openAs(name, os.O_RDONLY) }

func (d *directory) openAs(name string, flag int) (file, error) {
	if err := d.openDir(); err != nil {
		return nil, err
	}
	f, err := openRegular(d.at(name), flag)
	if err != nil {
		return nil, d.named(err)
	}
	return osFile{f}, nil
}

// openRegular opens a regular file and nothing else: no link, pipe or device
// that somebody put there.
func openRegular(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *directory) remove(name string) error { return d.named(os.Remove(d.at(name))) }

func (d *directory) rename(from, to string) error {
	return d.named(os.Rename(d.at(from), d.at(to)))
}

func (d *directory) syncDir() error { return d.dir.Sync() }

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		dir.Close()
		return err
	}
	return dir.Close()
}
