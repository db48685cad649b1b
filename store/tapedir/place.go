package tapedir

import "os"

// Places are directories that are kept open, so that another one at the
// same path can be told from them.
type Places map[string]*os.File

// KeepOpen opens directories; one that is not there is nil.
func KeepOpen(paths ...string) Places {
	h := Places{}
	for _, path := range paths {
		h[path], _ = os.Open(path)
	}
	return h
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
