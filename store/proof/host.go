package proof

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/conntape/conntape/store/tapedir"
)

// tapeHeld reports whether a recorder has the newest segment of a tape open.
func tapeHeld(dir string) (bool, error) {
	numbers, _, err := tapedir.List(dir)
	if err != nil || len(numbers) == 0 {
		return false, err
	}
	_, held, err := tapedir.LockHolder(filepath.Join(dir, tapedir.SegmentName(numbers[len(numbers)-1])), false)
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
