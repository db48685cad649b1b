package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
)

// pins looks for what recorders left in the kernel by record --pin, and no recorder uses.
func (h host) pins() Finding {
	const name = "pins"
	tapes, err := os.ReadDir(filepath.Join(h.root, bpf.DefaultPin))
	if errors.Is(err, fs.ErrNotExist) {
		return fine(name, "no programs wait in the kernel for another recorder")
	}
	if err != nil {
		return note(name, "ask as root", "not known: %v", err)
	}
	locks, err := h.read("/proc/locks")
	if err != nil {
		return note(name, "mount /proc", "not known who uses what is pinned: %v", err)
	}
	var left []string
	for _, t := range tapes {
		at := filepath.Join(bpf.DefaultPin, t.Name())
		if sets, err := os.ReadDir(filepath.Join(h.root, at)); err == nil && len(sets) > 0 && !h.locked(locks, at) {
			left = append(left, at)
		}
	}
	if len(left) > 0 {
		return note(name, "start the service; or, where there is to be none: conntape unpin --dir TAPE, and of a tape that is gone rm -r what is named here",
			"the programs of a recorder that has ended fill their rings until there is another: %s", strings.Join(left, ", "))
	}
	return fine(name, "a recorder uses all programs that are pinned")
}

// locked tells whether a process has the lock of a directory. To try it would keep a recorder from starting meanwhile.
func (h host) locked(locks, dir string) bool {
	var s unix.Stat_t
	if err := unix.Stat(filepath.Join(h.root, dir), &s); err != nil {
		return false
	}
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(s.Dev), unix.Minor(s.Dev), s.Ino) // fs/locks.c, lock_get_status
	for line := range strings.Lines(locks) {
		if words := strings.Fields(line); len(words) > 5 && words[1] == "FLOCK" && words[5] == inode {
			return true
		}
	}
	return false
}
