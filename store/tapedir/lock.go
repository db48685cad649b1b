package tapedir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
)

// Lock is the open lock file of a tape, and its directory. Only one recorder has it.
type Lock struct {
	file *os.File
	dir  Places
}

// TakeLock takes the lock of a tape without waiting. The file's text names the holder for the error message of a second
// recorder; flock decides. Its mode is 0600, so that a reader cannot take the lock and keep a recorder from starting.
func TakeLock(dir string, now time.Time) (*Lock, error) {
	path := filepath.Join(dir, LockName)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, BirthMode)
	if err != nil {
		return nil, &failure.Error{Op: "open tape lock", Path: path, Err: err,
			Hint: "the recorder must own the tape; run it as root or choose another --dir"}
	}
	file := os.NewFile(uintptr(fd), path)
	for {
		if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder := readHolder(file)
		file.Close()
		return nil, &failure.Error{Op: "lock tape", Path: dir, Err: fmt.Errorf("%w by %s", failure.ErrLocked, holder),
			Hint: "one recorder per tape: stop that one, or give this one another --dir"}
	}
	if err != nil {
		file.Close()
		return nil, &failure.Error{Op: "lock tape", Path: dir, Err: err,
			Hint: "the tape must be on a local file system with working locks"}
	}
	text := fmt.Sprintf("pid %d since %s\n", os.Getpid(), now.UTC().Format(time.RFC3339))
	if err := writeHolder(file, text); err != nil {
		file.Truncate(0) // the disk is full: the holder is not named
	}
	return &Lock{file: file, dir: KeepOpen(dir)}, nil
}

func writeHolder(file *os.File, text string) error {
	if err := file.Chmod(BirthMode); err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// readHolder returns the first line of the lock file, made printable.
func readHolder(file *os.File) string {
	buf := make([]byte, 128)
	n, err := file.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return "another process"
	}
	line, _, _ := strings.Cut(string(buf[:n]), "\n")
	if line == "" {
		return "another process"
	}
	return escape.Bytes([]byte(line))
}

// ErrDirMoved means that the tape's path leads to another directory now.
var ErrDirMoved = errors.New("the directory of the tape was moved away or replaced")

// ErrLockMoved means that a second recorder could start beside the holder of the lock.
var ErrLockMoved = errors.New("the lock of the tape was removed or replaced")

// CheckFile checks that the lock is still the file of this name in the directory.
func (l *Lock) CheckFile() error {
	was, err := l.file.Stat()
	if err != nil {
		return nil // it was released
	}
	if now, err := os.Lstat(l.file.Name()); err != nil || !os.SameFile(was, now) {
		return ErrLockMoved
	}
	return nil
}

// CheckPlace checks that the path of the tape still leads to the locked directory.
func (l *Lock) CheckPlace() error {
	if !l.dir.Same() {
		return ErrDirMoved
	}
	return nil
}

// Release empties the lock file and unlocks it.
func (l *Lock) Release() error {
	if l == nil || l.file == nil {
		return nil
	}
	l.dir.Close()
	err := l.file.Truncate(0)
	if cerr := l.file.Close(); err == nil {
		err = cerr
	}
	l.file = nil
	return err
}

// Bytes of a database file that SQLite locks, from its os.h: the pending byte, the reserved byte, and 510 shared bytes.
const (
	LockBytesStart = 0x40000000
	LockBytesLen   = 2 + 510
)

// LockHolder returns the pid of a process whose POSIX lock keeps others from locking the database at path, for reading
// or, with write, for writing. 0 means none, or unknown (another pid namespace, an open-file-description lock). It opens
// and closes the file, so never call it for a database that this process has open.
func LockHolder(path string, write bool) (pid int, held bool, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, false, err
	}
	defer unix.Close(fd)
	kind := int16(unix.F_RDLCK)
	if write {
		kind = unix.F_WRLCK
	}
	lk := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: LockBytesStart, Len: LockBytesLen}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &lk); err != nil {
		return 0, false, err
	}
	if lk.Type == unix.F_UNLCK {
		return 0, false, nil
	}
	return max(0, int(lk.Pid)), true, nil
}

// DescribeHolder describes the holder of path.
func DescribeHolder(path string) string {
	pid, held, err := LockHolder(path, true)
	if err != nil || !held {
		return "held by a process that is gone"
	}
	if pid == 0 {
		return "held by a process that cannot be named"
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("held by pid %d", pid)
	}
	return fmt.Sprintf("held by %s (pid %d)", escape.Bytes([]byte(strings.TrimSuffix(string(comm), "\n"))), pid)
}
