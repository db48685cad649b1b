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
