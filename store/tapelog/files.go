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

// files is the directory of a log. Tests replace it by one that fails or loses unsynced data.
type files interface {
	// makeDir makes the directory durably, unless it exists.
	makeDir() error
	// list returns the names in the directory, sorted.
	list() ([]string, error)
	// create makes and opens a new file; fs.ErrExist if it exists.
	create(name string) (file, error)
	// open opens a file for reading and writing, read only for reading; fs.ErrNotExist.
	open(name string) (file, error)
	read(name string) (file, error)
	// remove and rename change names; syncDir makes these changes and created names durable.
	remove(name string) error
	rename(from, to string) error
	syncDir() error
	// close closes the directory. It may be used again.
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
	// reserve allocates disk space from an offset on without changing the file's length, and reports whether it could.
	// release frees the space allocated beyond the end of the file.
	reserve(from, bytes int64) bool
	release(end int64)
}

// Modes of a log's files. Readers may read the parts, but not the key.
const (
	dirMode  = 0o750
	partMode = 0o640
	keyMode  = 0o600
)

// directory is a real directory. It is opened once, so later operations do not depend on its path.
type directory struct {
	path string
	// give makes a file or directory readable for the tape's readers; nil: no change.
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
	d.dir.Close() // only used for reading; an error does not matter
	d.dir = nil
}

// at returns the path of a file in the open directory.
func (d *directory) at(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.dir.Fd(), name)
}

// named replaces the path in an error by the known one.
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
	_ = f.Truncate(end) // else the space stays allocated
}

func (d *directory) makeDir() error {
	err := os.Mkdir(d.path, dirMode)
	made := err == nil
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = d.openDir()
	}
	if err != nil || !made {
		return err // it may be a link
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
	return d.named(os.Chmod(path, mode)) // independent of the umask
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
	case newStableName: // only for its owner
	default:
		if err := d.hand(d.at(name), partMode); err != nil {
			f.Close()
			return nil, err
		}
	}
	return osFile{f}, nil
}

// rewriteInPlace asks the file system to overwrite the blocks of an empty file instead of allocating new ones, so that
// an erased key is really gone, and backups to skip the file. docs/integrity.md tells the consequences where it cannot.
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

// Flags of FS_IOC_SETFLAGS (linux/fs.h) that package unix lacks.
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

// openRegular opens a regular file and refuses links, pipes and devices.
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
