package store

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/retain"
)

// RoomLeft returns how many bytes the recorder of a tape, which is root, can still get: what is free on the file system, and
// what is reserved for the tape.
func RoomLeft(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look at free space: %w", err)
	}
	reserved, err := Reserved(dir)
	return int64(st.Bfree)*st.Bsize + reserved, err
}

// Reserved returns how many bytes on the disk are set aside for the tape in dir and hold nothing yet: slots, the WAL of the
// next segment, and the rest that is too small for a slot.
func Reserved(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("look for the reserve: %w", err)
	}
	var sum int64
	for _, e := range entries {
		if e.Name() != reserveName && !strings.HasPrefix(e.Name(), reserveName+"-") {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // it has become a segment meanwhile, or is none of ours
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			continue // it is on its way to a segment, and counted there
		}
		sum += retain.BlocksOf(info)
	}
	return sum, nil
}
