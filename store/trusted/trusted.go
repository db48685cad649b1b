// Package trusted opens a directory by its path and reports whether another user controls where the path leads.
//
// The owner of a directory can replace its entries. Whoever makes a link in a shared directory such as /tmp decides
// where a program that follows it writes. The package knows owners, modes and links, and nothing of tapes.
package trusted

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Error names the part of a path that another user controls.
type Error struct {
	Path string // of the directory or the link
	Why  string
}

func (e *Error) Error() string { return e.Path + " " + e.Why }

// Open opens a directory. It only follows links of root and of the program's user. The error is an *Error, or of the
// operating system. Use the file only as a starting point: for openat(2) and /proc/self/fd.
func Open(path string) (*os.File, error) {
	return walk(path, func(string, *unix.Stat_t) error { return nil })
}

// Check checks that only root and the program's user can make a path lead elsewhere: each directory on the way belongs
// to one of them, and others cannot write to it unless it is sticky. sshd requires the same of authorized_keys.
func Check(path string) error {
	dir, err := walk(path, owned)
	if err != nil {
		return err
	}
	return dir.Close()
}

// ours reports whether a user is root or the program's user.
func ours(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

func owned(path string, st *unix.Stat_t) error {
	switch {
	case !ours(st.Uid):
		return &Error{path, fmt.Sprintf("belongs to user %d", st.Uid)}
	case st.Mode&unix.S_ISVTX != 0:
		return nil
	case st.Mode&0o002 != 0, st.Mode&0o020 != 0 && st.Gid != 0 && int(st.Gid) != os.Getegid():
		return &Error{path, fmt.Sprintf("can be written by others (mode %o)", st.Mode&0o7777)}
	}
	return nil
}

// mostLinks is the limit of links followed, as in Linux.
const mostLinks = 40

// walk opens one directory after the other and calls check for each.
func walk(path string, check func(string, *unix.Stat_t) error) (_ *os.File, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	w := walker{check: check}
	defer func() {
		if err != nil {
			w.dir.Close()
		}
	}()
	if err := w.root(); err != nil {
		return nil, err
	}
	rest := strings.Split(abs, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		target, err := w.step(name)
		if err != nil {
			return nil, err
		}
		if target == "" {
			continue
		}
		if links++; links > mostLinks {
			return nil, &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
		if filepath.IsAbs(target) {
			if err := w.root(); err != nil {
				return nil, err
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return w.dir, nil
}

// walker is a directory on the way.
type walker struct {
	check func(string, *unix.Stat_t) error
	dir   *os.File
}

// root goes to the root directory.
func (w *walker) root() error { return w.enter(unix.AT_FDCWD, "/", "/") }

// step enters a directory, or returns the target of a link.
func (w *walker) step(name string) (target string, err error) {
	path := filepath.Join(w.dir.Name(), name)
	var st unix.Stat_t
	if err := unix.Fstatat(int(w.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", w.enter(int(w.dir.Fd()), name, path)
	}
	if !ours(st.Uid) {
		return "", &Error{path, fmt.Sprintf("is a link of user %d", st.Uid)}
	}
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(w.dir.Fd()), name, buffer)
	if err != nil {
		return "", &os.PathError{Op: "read link", Path: path, Err: err}
	}
	return string(buffer[:n]), nil
}

func (w *walker) enter(from int, name, path string) error {
	fd, err := unix.Openat(from, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	w.dir.Close()
	w.dir = os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	return w.check(path, &st)
}
