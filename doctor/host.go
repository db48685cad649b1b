package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// host is the host to check; root is prefixed to its paths.
type host struct{ root string }

// read returns a file's text, trimmed.
func (h host) read(path string) (string, error) {
	text, err := os.ReadFile(filepath.Join(h.root, "/", path))
	return string(bytes.TrimSpace(text)), err
}

func (h host) kernel() Finding {
	release, err := h.read("/proc/sys/kernel/osrelease")
	if err != nil {
		return problem("kernel", "mount /proc", "not known: %v", err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major < 5 || major == 5 && minor < 8) {
		return problem("kernel", "boot Linux 5.8 or later", "Linux %s has no BPF ring buffer, which came with 5.8", release)
	}
	return fine("kernel", "Linux %s", release)
}

func (h host) types() Finding {
	info, err := os.Stat(filepath.Join(h.root, "/sys/kernel/btf/vmlinux"))
	if err != nil {
		return problem("btf", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, such as a large distribution's", "the kernel has no BTF types: %v", err)
	}
	return fine("btf", "the kernel has BTF types (%d KiB)", info.Size()/1024)
}

// needed are the capabilities of the backends and of naming cgroups. docs/operations.md lists them by backend.
var needed = []struct {
	name string
	bit  uint
}{{"CAP_BPF", unix.CAP_BPF}, {"CAP_PERFMON", unix.CAP_PERFMON}, {"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_DAC_READ_SEARCH", unix.CAP_DAC_READ_SEARCH}}

func (h host) capabilities() Finding {
	status, err := h.read("/proc/self/status")
	if err != nil {
		return problem("capabilities", "mount /proc", "not known: %v", err)
	}
	_, rest, _ := strings.Cut(status, "\nCapEff:")
	word, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	has, err := strconv.ParseUint(word, 16, 64)
	if err != nil {
		return problem("capabilities", "", "not known: %v", err)
	}
	var lacks []string
	for _, c := range needed {
		if has&(1<<c.bit) == 0 {
			lacks = append(lacks, c.name)
		}
	}
	if len(lacks) > 0 {
		return problem("capabilities", "put sudo in front, or give these to the service", "lacking %s", strings.Join(lacks, ", "))
	}
	return fine("capabilities", "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_DAC_READ_SEARCH are there")
}

func (h host) lockdown() Finding {
	text, err := h.read("/sys/kernel/security/lockdown")
	if err != nil {
		return fine("lockdown", "none: the kernel has none, or securityfs is not mounted")
	}
	_, rest, _ := strings.Cut(text, "[")
	mode, _, _ := strings.Cut(rest, "]")
	if mode == "confidentiality" {
		return problem("lockdown", "boot with lockdown=integrity: in this mode BPF may not read kernel memory", "confidentiality")
	}
	return fine("lockdown", "%s", mode)
}

func (h host) securityModules() Finding {
	text, err := h.read("/sys/kernel/security/lsm")
	if err != nil {
		return fine("lsm", "not known: %v", err)
	}
	return fine("lsm", "%s", strings.ReplaceAll(text, ",", ", "))
}

// mounts returns the mount points of a file system type.
func (h host) mounts(fstype string) (at []string) {
	text, err := h.read("/proc/self/mounts")
	if err != nil {
		return nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if words := strings.Fields(line); len(words) > 2 && words[2] == fstype {
			at = append(at, words[1])
		}
	}
	return at
}

func (h host) cgroups() Finding {
	at := h.mounts("cgroup2")
	if len(at) == 0 {
		return note("cgroup", "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
			"version 2 is not mounted: connections have no container; the cgroup backend mounts it for itself")
	}
	return fine("cgroup", "version 2 is mounted at %s", at[0])
}

func (h host) tracefs() Finding {
	at := h.mounts("tracefs")
	if len(at) == 0 {
		return note("tracefs", "mount -t tracefs none /sys/kernel/tracing", "not mounted; record mounts it if it has CAP_SYS_ADMIN, which the systemd unit does not let it use for that")
	}
	return fine("tracefs", "mounted at %s", at[0])
}

func (h host) bpffs() Finding {
	at := h.mounts("bpf")
	if !slices.Contains(at, "/sys/fs/bpf") {
		return note("bpffs", "mount -t bpf bpf /sys/fs/bpf -o mode=700", "no BPF file system is mounted at /sys/fs/bpf: record --pin cannot keep what happens during a restart")
	}
	return fine("bpffs", "mounted at /sys/fs/bpf: record --pin loses nothing at a restart")
}

// switches checks the kernel's switches that silence attached programs.
func (h host) switches() Finding {
	for _, path := range []string{"/proc/sys/kernel/ftrace_enabled", "/sys/kernel/debug/kprobes/enabled"} {
		if text, err := h.read(path); err == nil && text == "0" {
			return problem("switches", "echo 1 > "+path+", and find out who set it", "%s is 0: this silences attached programs", path)
		}
	}
	return fine("switches", "no switch silences the hooks")
}

// tracers lists other programs on the hook of fexit and kprobe.
func (h host) tracers() Finding {
	const symbol = "security_socket_connect"
	var others []string
	if at := h.mounts("tracefs"); len(at) > 0 {
		if text, err := h.read(at[0] + "/kprobe_events"); err == nil {
			for line := range strings.SplitSeq(text, "\n") {
				if strings.Contains(line, symbol) {
					others = append(others, line)
				}
			}
		}
		if text, err := h.read(at[0] + "/enabled_functions"); err == nil && strings.Contains(text, symbol) {
			others = append(others, "a trampoline or kprobe on "+symbol)
		}
	}
	if len(others) > 0 {
		return fine("tracers", "other programs use the same hook, which is harmless: %s", strings.Join(others, "; "))
	}
	return fine("tracers", "no other program uses the same hook")
}

func (h host) clock() Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case errors.Is(err, unix.EPERM):
		return note("clock", "", "not known: a system call filter forbids adjtimex")
	case err != nil:
		return note("clock", "", "not known: %v", err)
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		return note("clock", "run systemd-timesyncd, chrony or ntpd", "not synchronized: times on the tape may be wrong")
	}
	return fine("clock", "synchronized")
}
