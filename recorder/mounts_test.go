package recorder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// TestMounts: a mount namespace that has the host's /etc/passwd has the host's users, and no other has.
func TestMounts(t *testing.T) {
	const root = "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	proc := t.TempDir()
	place := func(pid, mntns, mountinfo string) {
		dir := filepath.Join(proc, pid)
		err := errors.Join(os.MkdirAll(filepath.Join(dir, "ns"), 0o755), os.Symlink("mnt:["+mntns+"]", filepath.Join(dir, "ns/mnt")),
			os.WriteFile(filepath.Join(dir, "mountinfo"), []byte(mountinfo), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	place("self", "10", root+"26 25 0:5 / /dev rw - devtmpfs d rw\n")
	place("2", "20", root+"30 25 0:40 / /tmp rw - tmpfs t rw\n")           // a service with a /tmp of its own
	place("3", "30", "30 1 0:40 / / rw - overlay o rw\n")                  // another root
	place("4", "40", root+"30 25 0:41 /p /etc/passwd rw - tmpfs t rw\n")   // another list of users
	place("5", "50", root+"30 25 0:41 / /etc rw - tmpfs t rw\n")           // likewise
	place("6", "60", "9 1 8:1 /chroot / rw - ext4 /dev/sda1 rw\n")         // a directory of the host's disk
	place("11", "80", root+"30 25 8:1 /etc /etc ro - ext4 /dev/sda1 ro\n") // the host's, read-only
	place("7", "70", root+"30 1 0:41 / / rw - tmpfs t rw\n")               // a root over the root
	m := newMounts(proc)
	m.learn(&bpf.Process{PidInNS: 1, MntNS: 10})
	m.learn(&bpf.Process{PidInNS: 1, MntNS: 20}) // of a container
	for _, c := range []struct {
		pid   uint32
		mntns uint64
		users bool
		place store.MountPlace
	}{
		{1, 10, true, store.MountsHost}, {8, 10, true, store.MountsHost}, {2, 20, true, store.MountsOther},
		{3, 30, false, store.MountsOther}, {4, 40, false, store.MountsOther}, {5, 50, false, store.MountsOther}, {6, 60, false, store.MountsOther},
		{11, 80, true, store.MountsOther},
		{7, 70, false, store.MountsOther},
		{9, 90, false, store.MountsOther}, // has ended
		{3, 90, false, store.MountsOther}, // has moved
		{3, 20, true, store.MountsOther},  // known by another process of it
		{3, 0, true, store.MountsUnknown},
	} {
		if users, at := m.hostUsers(c.pid, c.mntns), m.place(c.mntns); users != c.users || at != c.place {
			t.Errorf("process %d in %d: the host's users %v, place %d", c.pid, c.mntns, users, at)
		}
	}
	if m := newMounts(t.TempDir()); m.place(10) != store.MountsUnknown || !m.hostUsers(1, 10) {
		t.Error("a host whose mount namespace is unknown")
	}
}
