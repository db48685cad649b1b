package recorder

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// mounts knows the mount namespace of the host, and of the others whether a user's name in /etc/passwd is the host's there.
//
// It asks /proc/PID/mountinfo, which is the kernel's own list: a look into the files themselves could be made to wait for ever by
// whoever mounted them (FUSE).
type mounts struct {
	proc   string
	host   uint64          // inode of the mount namespace of process 1, 0 unknown
	passwd string          // device and path of ours
	shared map[uint64]bool // by inode of a mount namespace: /etc/passwd is the host's
}

// mostMounts bounds how many namespaces are remembered.
const mostMounts = 4096

func newMounts(proc string) *mounts {
	m := &mounts{proc: proc, shared: map[uint64]bool{}}
	m.passwd = m.passwdOf("self") // that is the one of which the names come
	return m
}

// learn takes what a walk over all processes says, which begins with process 1, or in a pid namespace of our own with the first
// that there is to be seen. Kernel threads are in the host's mount namespace.
func (m *mounts) learn(rec *bpf.Process) {
	if m.host == 0 && (rec.PidInNS == 1 || rec.Flags&bpf.KernelThread != 0) {
		m.host = uint64(rec.MntNS)
	}
}

// place tells where the programs of a mount namespace, given by its inode, come from.
func (m *mounts) place(mntns uint64) store.MountPlace {
	switch {
	case mntns == 0 || m.host == 0:
		return store.MountsUnknown
	case mntns == m.host:
		return store.MountsHost
	}
	return store.MountsOther
}

// hostUsers tells whether a user of a process has the name that the host gives him: not in a mount namespace that has another
// /etc/passwd, or of which that is not known.
func (m *mounts) hostUsers(pid uint32, mntns uint64) bool {
	if m.place(mntns) != store.MountsOther {
		return true
	}
	if same, ok := m.shared[mntns]; ok {
		return same
	}
	passwd := m.passwdOf(strconv.FormatUint(uint64(pid), 10))
	if link, err := os.Readlink(filepath.Join(m.proc, strconv.FormatUint(uint64(pid), 10), "ns/mnt")); err != nil || link != "mnt:["+strconv.FormatUint(mntns, 10)+"]" {
		return false // it has ended, or is elsewhere by now; the next of the namespace may tell
	}
	if len(m.shared) >= mostMounts {
		clear(m.shared)
	}
	m.shared[mntns] = passwd != "" && passwd == m.passwd
	return m.shared[mntns]
}

// passwdOf returns the device and the path on it of /etc/passwd in the mount namespace of a process, "" unknown
// (proc_pid_mountinfo(5)).
func (m *mounts) passwdOf(pid string) string {
	text, err := os.ReadFile(filepath.Join(m.proc, pid, "mountinfo"))
	if err != nil {
		return ""
	}
	const passwd = "/etc/passwd"
	found := ""
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // number, parent, device, directory of it, place
		if len(fields) < 5 {
			continue
		}
		if at := strings.TrimSuffix(fields[4], "/"); at == "" || at == "/etc" || at == passwd { // a later one is on top
			found = fields[2] + " " + filepath.Join(fields[3], strings.TrimPrefix(passwd, at))
		}
	}
	return found
}
