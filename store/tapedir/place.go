package tapedir

import "os"

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

// Same reports whether each path still leads to its opened directory.
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
