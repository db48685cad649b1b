package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store/retain"
	"golang.org/x/sys/unix"
)

// hostOf makes a host that consists of these files.
func hostOf(t *testing.T, files map[string]string) host {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		at := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return host{root}
}

func TestHost(t *testing.T) {
	mounts := "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\ntracefs /t tracefs rw 0 0\n"
	for name, c := range map[string]struct {
		files map[string]string
		look  func(host) Finding
		level Level
		says  string
	}{
		"old kernel":      {map[string]string{"/proc/sys/kernel/osrelease": "5.4.0-42-generic\n"}, host.kernel, Problem, "5.4.0-42-generic has no BPF ring buffer"},
		"kernel":          {map[string]string{"/proc/sys/kernel/osrelease": "6.1.0-18-amd64\n"}, host.kernel, OK, "6.1.0-18-amd64"},
		"no types":        {nil, host.types, Problem, "has no BTF types"},
		"types":           {map[string]string{"/sys/kernel/btf/vmlinux": "x"}, host.types, OK, "has BTF types"},
		"no capability":   {map[string]string{"/proc/self/status": "Name:\tx\nCapEff:\t0000000000000000\n"}, host.capabilities, Problem, "lacking CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_DAC_READ_SEARCH"},
		"some":            {map[string]string{"/proc/self/status": "Name:\tx\nCapEff:\t000000c000080000\n"}, host.capabilities, Problem, "lacking CAP_NET_ADMIN, CAP_DAC_READ_SEARCH"},
		"all":             {map[string]string{"/proc/self/status": "Name:\tx\nCapEff:\t000001ffffffffff\n"}, host.capabilities, OK, "are there"},
		"no lockdown":     {nil, host.lockdown, OK, "none"},
		"integrity":       {map[string]string{"/sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, host.lockdown, OK, "integrity"},
		"confidentiality": {map[string]string{"/sys/kernel/security/lockdown": "none integrity [confidentiality]\n"}, host.lockdown, Problem, "confidentiality"},
		"no cgroup":       {map[string]string{"/proc/self/mounts": "x / ext4 rw 0 0\n"}, host.cgroups, Note, "not mounted"},
		"cgroup":          {map[string]string{"/proc/self/mounts": mounts}, host.cgroups, OK, "/sys/fs/cgroup"},
		"no tracefs":      {map[string]string{"/proc/self/mounts": "x / ext4 rw 0 0\n"}, host.tracefs, Note, "not mounted"},
		"no bpffs":        {map[string]string{"/proc/self/mounts": "bpf /elsewhere bpf rw 0 0\n"}, host.bpffs, Note, "no BPF file system"},
		"bpffs":           {map[string]string{"/proc/self/mounts": "bpf /sys/fs/bpf bpf rw 0 0\n"}, host.bpffs, OK, "mounted"},
		"silenced":        {map[string]string{"/proc/sys/kernel/ftrace_enabled": "0\n"}, host.switches, Problem, "ftrace_enabled is 0"},
		"not silenced":    {map[string]string{"/proc/sys/kernel/ftrace_enabled": "1\n"}, host.switches, OK, "no switch"},
		"tracer":          {map[string]string{"/proc/self/mounts": mounts, "/t/kprobe_events": "p:kprobes/x security_socket_connect\n"}, host.tracers, OK, "p:kprobes/x"},
		"no tracer":       {map[string]string{"/proc/self/mounts": mounts, "/t/kprobe_events": "p:kprobes/x do_exit\n"}, host.tracers, OK, "no other program"},
	} {
		f := c.look(hostOf(t, c.files))
		if f.Level != c.level || !strings.Contains(f.Text, c.says) || (f.Mend == "") != (f.Level == OK) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// Pins are of a recorder that runs as long as somebody holds the lock of their directory.
func TestPins(t *testing.T) {
	h := hostOf(t, map[string]string{"/proc/locks": "1: POSIX  ADVISORY  WRITE 1 00:01:2 0 EOF\n"})
	if f := h.pins(); f.Level != OK {
		t.Errorf("none: %+v", f)
	}
	dir := filepath.Join(h.root, bpf.DefaultPin, "0123")
	if err := os.MkdirAll(filepath.Join(dir, "set"), 0o700); err != nil {
		t.Fatal(err)
	}
	if f := h.pins(); f.Level != Note || !strings.Contains(f.Text, bpf.DefaultPin+"/0123") || !strings.Contains(f.Mend, "unpin") {
		t.Errorf("left: %+v", f)
	}
	lock, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.root, "/proc/locks"), locks, 0o644); err != nil {
		t.Fatal(err)
	}
	if f := h.pins(); f.Level != OK {
		t.Errorf("in use: %+v\n%s", f, locks)
	}
}

func TestPlace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the directory must be root's to be right")
	}
	base := t.TempDir()
	dir := filepath.Join(base, "tape")
	if f := (place{dir: dir}).directory(); f.Level != OK || !strings.Contains(f.Text, "not there yet") {
		t.Errorf("missing: %+v", f)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if f := (place{dir: dir}).directory(); f.Level != OK {
		t.Errorf("right: %+v", f)
	}
	if f := (place{dir: dir, limits: retain.Limits{MaxBytes: 1 << 60}}).room(); f.Level != Note || f.Mend == "" {
		t.Errorf("small disk: %+v", f)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if f := (place{dir: dir}).directory(); f.Level != Problem || !strings.Contains(f.Mend, "chmod 0750") {
		t.Errorf("open to all: %+v", f)
	}
	if err := os.Chown(base, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if f := (place{dir: dir}).directory(); f.Level != Problem || !strings.Contains(f.Text, "belongs to user 65534") {
		t.Errorf("below another's: %+v", f)
	}
}

// A connect that was not recorded is a problem, and the finding names it.
func TestJudge(t *testing.T) {
	made := []connect{{"inet", 1}, {"unix", 2}}
	if f := judge("proof", "a tape", made, map[uint64]bool{1: true, 2: true}); len(f) != 1 || f[0].Level != OK {
		t.Errorf("%+v", f)
	}
	if f := judge("proof", "a tape", made, map[uint64]bool{1: true}); len(f) != 1 || f[0].Level != Problem || !strings.HasSuffix(f[0].Text, ": unix") || f[0].Mend == "" {
		t.Errorf("%+v", f)
	}
}

// Each way of connecting uses a socket of its own.
func TestConnectAll(t *testing.T) {
	made, findings := connectAll()
	for _, f := range findings {
		t.Logf("%s", f.Text)
	}
	cookies := make(map[uint64]bool)
	for _, c := range made {
		cookies[c.cookie] = true
	}
	if len(made)+len(findings) != len(ways) || len(cookies) != len(made) || cookies[0] || len(made) < 3 {
		t.Errorf("%+v, %+v", made, findings)
	}
}

func TestReason(t *testing.T) {
	err := errors.New("this kernel cannot record: no backend attaches: fexit: load programs: EPERM (MEMLOCK may be too low, consider rlimit.RemoveMemlock)\nverifier")
	if got := reason(bpf.Fexit, err); got != "load programs: EPERM" {
		t.Errorf("%q", got)
	}
}
