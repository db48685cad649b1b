package tapelog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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
}

// file is one open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	size() (int64, error)
}

// Modes of a log. Readers may see the parts and not the key.
const (
	dirMode  = 0o750
	partMode = 0o640
	keyMode  = 0o600
)

// directory is files in a real directory.
type directory struct {
	path string
	// give hands a file or directory to the readers of the tape; nil: nobody.
	give func(path string, mode fs.FileMode) error
}

type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d directory) makeDir() error {
	err := os.Mkdir(d.path, dirMode)
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Lstat(d.path) // a link here would lead us astray
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s: not a directory", d.path)
		}
		return err
	}
	if err != nil {
		return err
	}
	if err := d.hand(d.path, dirMode); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(d.path))
}

func (d directory) hand(path string, mode fs.FileMode) error {
	if d.give != nil {
		return d.give(path, mode)
	}
	return os.Chmod(path, mode) // whatever the umask is
}

func (d directory) list() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	slices.Sort(names)
	return names, nil
}

func (d directory) create(name string) (file, error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, keyMode)
	if err != nil {
		return nil, err
	}
	if name == keyName || name == newKeyName {
		rewriteInPlace(f)
	} else if err := d.hand(path, partMode); err != nil {
		f.Close()
		return nil, err
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

func (d directory) open(name string) (file, error) {
	f, err := openRegular(filepath.Join(d.path, name), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d directory) read(name string) (file, error) {
	f, err := openRegular(filepath.Join(d.path, name), os.O_RDONLY)
	if err != nil {
		return nil, err
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
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d directory) remove(name string) error { return os.Remove(filepath.Join(d.path, name)) }

func (d directory) rename(from, to string) error {
	return os.Rename(filepath.Join(d.path, from), filepath.Join(d.path, to))
}

func (d directory) syncDir() error { return syncDirectory(d.path) }

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
