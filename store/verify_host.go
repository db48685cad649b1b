package store

import (
	"os"
	"path/filepath"
	"strings"
)

// tapeHeld reports whether a recorder has the newest segment of a tape open.
func tapeHeld(dir string) (bool, error) {
	numbers, _, err := listSegments(dir)
	if err != nil || len(numbers) == 0 {
		return false, err
	}
	_, held, err := lockHolder(filepath.Join(dir, segmentName(numbers[len(numbers)-1])), false)
	return held, err
}

// localBootID returns the boot id of this host, "" unknown.
func localBootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// heldDirectories are directories that are kept open, so that another one at the
// same path can be told from them.
type heldDirectories map[string]*os.File

// holdDirectories opens directories; one that is not there is nil.
func holdDirectories(paths ...string) heldDirectories {
	h := heldDirectories{}
	for _, path := range paths {
		h[path], _ = os.Open(path)
	}
	return h
}

// same reports whether each path still leads to the directory that it led to.
func (h heldDirectories) same() bool {
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

func (h heldDirectories) close() {
	for _, dir := range h {
		if dir != nil {
			dir.Close()
		}
	}
}
