package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupRoot is the root of the cgroup v2 hierarchy.
type cgroupRoot struct {
	path string
	file *os.File // the private mount that path goes through
}

func (r *cgroupRoot) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// openCgroupRoot finds cgroup v2 wherever it is mounted, or else mounts it for ourselves alone: a mount that is attached
// nowhere and goes with its descriptor.
func openCgroupRoot() (*cgroupRoot, error) {
	at, err := findMount("cgroup2")
	if err != nil {
		return nil, err
	}
	if at != "" {
		return &cgroupRoot{path: at}, nil
	}
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount cgroup v2 privately: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("mount cgroup v2 privately: %w", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount cgroup v2 privately: %w", err)
	}
	f := os.NewFile(uintptr(mnt), "cgroup2")
	return &cgroupRoot{path: fmt.Sprintf("/proc/self/fd/%d", mnt), file: f}, nil
}

const tracefsDir = "/sys/kernel/tracing"

// mountTracefs mounts tracefs at the place that the kernel made for it, where it is mounted nowhere. Attaching a
// tracepoint reads its number there.
func mountTracefs() error {
	at, err := findMount("tracefs")
	if err != nil || at != "" {
		return err
	}
	err = unix.Mount("tracefs", tracefsDir, "tracefs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount tracefs at %s: %w", tracefsDir, err)
	}
	return nil
}

// findMount returns where the root of a file system of that type is mounted, "" when nowhere (proc_pid_mountinfo(5)).
func findMount(fstype string) (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find mount of %s: %w", fstype, err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		mount, fs, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if ok && len(fields) >= 5 && fields[3] == "/" && strings.HasPrefix(fs, fstype+" ") {
			return unescapeMount(fields[4]), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("find mount of %s: %w", fstype, err)
	}
	return "", nil
}

// unescapeMount undoes what the kernel does to white space and backslashes (fs/proc_namespace.c, mangle).
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
