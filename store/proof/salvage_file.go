package proof

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/trusted"
)

// Root salvages in directories of other users, or in a mounted image. The owner of a directory may move it away or
// replace it by a link at any time. So salvage opens each directory once, follows no link of another user, and then
// names files by the directory's descriptor.

// place is an open directory and a name in it.
type place struct {
	folder *os.File
	name   string
}

// findPlace walks to the directory of a path.
func findPlace(path string) (place, error) {
	folder, err := trusted.Open(filepath.Dir(path))
	return place{folder, filepath.Base(path)}, err
}

// dir returns a path to the open directory, even if it was renamed.
func (p place) dir() string { return tapedir.Beneath(p.folder) }

func (p place) path() string { return p.dir() + "/" + p.name }

// openPages opens the segment's files; it follows no link.
func (p place) openPages(ctx context.Context) (*sqlitefile.Pages, error) {
	db, err := tapedir.OpenForCopy(p.path())
	if err != nil {
		return nil, err
	}
	wal, err := tapedir.OpenForCopy(p.path() + "-wal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		db.Close()
		return nil, err
	}
	return sqlitefile.OpenPages(ctx, db, wal)
}

// errSwapped means that a file was replaced while it was written.
var errSwapped = errors.New("it was replaced while it was written")

// newFile is a file that did not exist before.
type newFile struct {
	place
	file *os.File
}

// make makes a file that must not exist.
func (p place) make() (newFile, error) {
	file, err := os.OpenFile(p.path(), os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, tapedir.BirthMode)
	return newFile{p, file}, err
}

// checkLocked checks that this process has locked this file through SQLite. SQLite opens by name and follows links, and
// writes to the file that it locked. Close the file only after SQLite has: closing it would drop the lock.
func (f newFile) checkLocked() error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: tapedir.LockBytesStart, Len: tapedir.LockBytesLen}
	if err := unix.FcntlFlock(f.file.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return fmt.Errorf("look for lock: %w", err)
	}
	if lock.Type == unix.F_UNLCK || int(lock.Pid) != os.Getpid() {
		return errSwapped
	}
	return nil
}

// close adds page sums, syncs, and sets the mode of a closed segment. The file must still be there.
func (f newFile) close(ctx context.Context) error {
	if err := sqlitefile.WriteSums(ctx, f.file, 0); err != nil {
		return err
	}
	if err := errors.Join(f.file.Chmod(tapedir.ClosedMode), f.file.Sync(), tapedir.SyncDir(f.dir())); err != nil {
		return err
	}
	was, err := f.file.Stat()
	if err != nil {
		return err
	}
	if is, err := os.Lstat(f.path()); err != nil || !os.SameFile(was, is) {
		return errSwapped
	}
	return nil
}
