package hash

import (
	"os"
	"path/filepath"
	"testing"
)

// A program that has exited, and whose file is not at its path, is gone: where nobody may look into the root of process 1, ours
// says so. Nobody knows only if no root can be looked into.
func TestGoneWhereARootIsRefused(t *testing.T) {
	proc, path := t.TempDir(), filepath.Join(t.TempDir(), "gone")
	for pid, root := range map[string]string{"1": "root", "2": "/"} { // that of process 1 leads in a circle
		if err := os.Mkdir(filepath.Join(proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(root, filepath.Join(proc, pid, "root")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		roots []uint32
		want  Source
	}{{[]uint32{1, 2}, Gone}, {[]uint32{2, 1}, Gone}, {[]uint32{1}, Unreadable}, {[]uint32{3}, Gone}, {[]uint32{1, 3}, Unreadable}, {nil, Gone}} {
		h, wait := started(t, Options{Proc: proc})
		h.Add(Job{PID: 3, Roots: c.roots, Path: path})
		if r := wait(1)[0]; r.Source != c.want {
			t.Errorf("roots of %d: %s, want %s", c.roots, r.Source, c.want)
		}
	}
}
