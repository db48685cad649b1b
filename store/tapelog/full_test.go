package tapelog

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// An open log can append many lines after somebody else filled the disk to the last block: the removal of a segment
// because of a full disk has to be logged before the recorder can be killed. Closing the log frees the space.
func TestFullDiskTakesLines(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("NOT TESTED: needs to mount a file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	dir := filepath.Join(mount, "log")
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := kept{key: l.FirstKey()}
	appendLeaves(t, l, &k, 3)
	filler, err := os.Create(filepath.Join(mount, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	filler.Close()
	appendLeaves(t, l, &k, 80)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, partName(1)), &st); err != nil || st.Blocks*512 > st.Size+4096 {
		t.Errorf("%d bytes take %d blocks, %v", st.Size, st.Blocks, err)
	}
	if r := mustVerify(t, dir, VerifyOptions{Key: k.key, Head: k.heads[len(k.heads)-1]}); len(r.Findings) > 0 || r.Leaves != 83 {
		t.Errorf("%+v", r.Findings)
	}
}
