package tapedir

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OpenPath opens a file or a directory to be a starting point alone, for Beneath: of whatever kind it is, that does nothing
// to it.
func OpenPath(path string) (*os.File, error) { return os.OpenFile(path, unix.O_PATH, 0) }

// Beneath returns a path that leads to a directory that is open, whatever its name leads to by now. It is good while the
// directory is open. Where /proc is not mounted, as in a bare chroot, the name has to do.
func Beneath(folder *os.File) string {
	path := fmt.Sprintf("/proc/self/fd/%d", folder.Fd())
	if _, err := os.Stat(path); err != nil {
		return folder.Name()
	}
	return path
}

// Places keeps directories open, to notice that a path leads to another directory.
type Places map[string]*os.File

// KeepOpen opens directories; a missing one is nil.
func KeepOpen(paths ...string) Places {
	h := Places{}
	for _, path := range paths {
		h[path], _ = os.Open(path)
	}
	return h
}

// KeepBeneath opens a directory of a directory that is kept open already.
func (h Places) KeepBeneath(path, name string) {
	h[filepath.Join(path, name)], _ = os.Open(filepath.Join(Beneath(h[path]), name))
}

// Same reports whether each path still leads to the directory that it led to.
func (h Places) Same() bool {
	for path, dir := range h {
		now, err := os.Stat(path)
		if dir == nil {
			if err == nil {
				return false
			}
			continue
		}
		was, statErr := dir.Stat()
		if err != nil || statErr != nil || !os.SameFile(was, now) {
			return false
		}
	}
	return true
}

func (h Places) Close() {
	for _, dir := range h {
		if dir != nil {
			dir.Close()
		}
	}
}
