package proof

import (
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

// Root salvages in directories of others: of a user, of an image of a disk. Who owns one may move it away, or put a link in
// its place, between any two steps. So each directory is walked to once, by no link of somebody else, and held open; what is
// in it is named by its descriptor from then on.

// place is a directory that is held open, and a name in it.
type place struct {
	folder *os.File
	name   string
}

// findPlace walks to the directory of a path.
func findPlace(path string) (place, error) {
	folder, err := trusted.Open(filepath.Dir(path))
	return place{folder, filepath.Base(path)}, err
}

// dir is a path that leads to the directory, whatever its name leads to by now.
func (p place) dir() string { return fmt.Sprintf("/proc/self/fd/%d", p.folder.Fd()) }

func (p place) path() string { return p.dir() + "/" + p.name }

// openPages opens what there is of a segment, and no link.
func (p place) openPages() (*sqlitefile.Pages, error) {
	db, err := tapedir.OpenForCopy(p.path())
	if err != nil {
		return nil, err
	}
	wal, err := tapedir.OpenForCopy(p.path() + "-wal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		db.Close()
		return nil, err
	}
	return sqlitefile.OpenPages(db, wal)
}

// errSwapped says that a file that is being written is not the one that its name leads to.
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

// checkLocked makes sure that this process has locked the file with SQLite. SQLite opens by name, and goes by links; what it
// has locked is what it will write. The file must not be closed before SQLite has closed it: that would drop the lock.
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

// close ends the file: sums behind its pages, durable, with the mode of one that is closed. It must be there yet.
func (f newFile) close() error {
	if err := sqlitefile.WriteSums(f.file, 0); err != nil {
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
