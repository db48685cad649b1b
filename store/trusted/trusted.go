// Package trusted walks to a directory as a path names it, and says whether
// somebody else decides where the path leads.
//
// Who owns a directory can rename what is in it and put something else there; who
// makes a link in a directory for all, such as /tmp, has whoever follows it write
// where he likes. The package knows owners, modes and links, and nothing of tapes.
package trusted

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Error says which part of a path is in somebody else's hands.
type Error struct {
	Path string // of the directory or the link
	Why  string
}

func (e *Error) Error() string { return e.Path + " " + e.Why }

// Open opens a directory. It follows no link but those of root and of the user who
// runs the program. The error is an *Error, or one of the operating system. The file
// is of use as a starting point alone: for openat(2) and for /proc/self/fd.
func Open(path string) (*os.File, error) {
	return walk(path, func(string, *unix.Stat_t) error { return nil })
}

// Check makes sure that nobody but root and the user who runs the program can make a
// path lead elsewhere: each directory on the way belongs to one of them, and nobody
// else may write to it, unless it is sticky. That is what sshd asks of the file with
// the keys of a user.
func Check(path string) error {
	dir, err := walk(path, owned)
	if err != nil {
		return err
	}
	return dir.Close()
}

// ours reports whether a user is root or the one who runs the program.
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

// mostLinks is how many links are followed: as many as Linux follows.
const mostLinks = 40

// walk opens one directory after the other, and asks check of each.
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

// step goes on to a directory, or returns where a link leads.
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
