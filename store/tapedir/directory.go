package tapedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/conntape/conntape/store/failure"
)

// Modes of a tape's files. A closed segment loses the write bits, which tells readers that it is never written again.
const (
	DirMode    = 0o750
	BirthMode  = 0o600 // until the recorder has locked it, so that nobody opens it before
	FileMode   = 0o640
	ClosedMode = 0o440
	LockName   = "lock"
	HeldDir    = "held"
)

// SegmentName returns the file name of segment n.
func SegmentName(n int) string { return string(AppendSegmentName(nil, n)) }

// AppendSegmentName appends the file name of segment n.
func AppendSegmentName(to []byte, n int) []byte {
	const zeros = "00000000"
	digits := strconv.AppendInt(make([]byte, 0, 20), int64(n), 10)
	to = append(to, zeros[:max(0, len(zeros)-len(digits))]...)
	return append(append(to, digits...), ".db"...)
}

// ParseSegmentName returns the number of a segment file name.
func ParseSegmentName(name string) (int, bool) {
	digits, ok := strings.CutSuffix(name, ".db")
	if !ok || len(digits) < 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n < 1 || len(digits) > 8 && digits[0] == '0' {
		return 0, false // not a name by SegmentName
	}
	return int(n), true
}

// Make makes the tape directory if it is missing, and gives it to the reading group.
func Make(dir string) error {
	parent := filepath.Dir(dir)
	if err := makeParents(parent); err != nil {
		return &failure.Error{Op: "make tape directory", Path: dir, Err: failure.Bare(err)}
	}
	err := os.Mkdir(dir, DirMode)
	switch {
	case err == nil:
		if err := GiveToGroup(dir, DirMode); err != nil {
			return err
		}
		return syncParent(parent)
	case errors.Is(err, fs.ErrExist):
		info, err := os.Stat(dir)
		if err != nil {
			return &failure.Error{Op: "open tape", Path: dir, Err: failure.Bare(err)}
		}
		if !info.IsDir() {
			return &failure.Error{Op: "open tape", Path: dir, Err: errors.New("not a directory"),
				Hint: "name the directory of the tape with --dir"}
		}
		return nil
	default:
		return &failure.Error{Op: "make tape directory", Path: dir, Err: failure.Bare(err),
			Hint: "the recorder must be able to write there; run it as root or choose another --dir"}
	}
}

// makeParents is os.MkdirAll with durable names: without its directory's name, a synced tape is lost too.
func makeParents(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeParents(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncParent(parent)
}

// syncParent is SyncDir for a directory that may belong to somebody else: a process that can write to a directory but
// not read it cannot sync it.
func syncParent(dir string) error {
	if err := SyncDir(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// CheckOwn checks that nobody else can have put files into path: it is a directory of this user, without the permissions
// in without, and no group but our own may write to it.
func CheckOwn(path string, without fs.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return errors.New("not a directory")
	case ok && int(st.Uid) != os.Geteuid() && st.Uid != 0:
		return fmt.Errorf("it belongs to user %d", st.Uid)
	case info.Mode().Perm()&without != 0, ok && info.Mode().Perm()&0o020 != 0 && int(st.Gid) != os.Getegid():
		return fmt.Errorf("others may write to it (mode %o)", info.Mode().Perm())
	}
	return nil
}

// GiveToGroup sets the mode of path and, if there is a group conntape and we may, its group. It works by name: opening
// and closing an open segment's file would drop the recorder's locks.
func GiveToGroup(path string, mode fs.FileMode) error {
	if g, err := user.LookupGroup(failure.Group); err == nil && os.Geteuid() == 0 {
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("parse group id: %w", err)
		}
		if err := os.Lchown(path, -1, gid); err != nil {
			return fmt.Errorf("set group: %w", err)
		}
	}
	if err := os.Chmod(path, mode); err != nil { // after chown, and despite the umask
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

// ClosedFile reports whether the mode marks the segment as closed.
func ClosedFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o222 == 0
}

// IsThere reports whether a file exists. It returns true if that cannot be found out.
func IsThere(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
