package store

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/retain"
)

// RoomLeft returns the bytes that a tape's recorder, which is root, can still get: free space and the reserve.
func RoomLeft(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look at free space: %w", err)
	}
	reserved, err := Reserved(dir)
	return int64(st.Bfree)*st.Bsize + reserved, err
}

// Reserved returns the bytes allocated for the tape in dir but empty: slots, the next segment's WAL, and the rest.
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
			continue // it became a segment, or is not ours
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			continue // being made a segment: counted there
		}
		sum += retain.BlocksOf(info)
	}
	return sum, nil
}
