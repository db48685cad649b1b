package store

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/tapedir"
)

// RoomLeft returns how many bytes the recorder of a tape, which is root, can still get: what is free on the file system, and
// what is reserved for the tape.
func RoomLeft(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look at free space: %w", err)
	}
	room := int64(st.Bfree) * st.Bsize
	if info, err := os.Lstat(filepath.Join(dir, tapedir.ReserveName)); err == nil && info.Mode().IsRegular() {
		room += retain.BlocksOf(info)
	}
	return room, nil
}
