package capture

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unitCapabilities are those that packaging/conntape.service has.
var unitCapabilities = map[string]int{"CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN}

// TestCapabilities: with the capabilities of the unit and no other, every backend records, and describes processes as it
// does with all of them. With CONNTAPE_TEST_LONG it also tells what is missing without each: the table of docs/operations.md.
func TestCapabilities(t *testing.T) {
	if u, err := os.Stat("/sys/kernel/tracing/events"); err != nil || !u.IsDir() {
		if err := unix.Mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, ""); err != nil && err != unix.EBUSY {
			t.Fatalf("mount tracefs, as systemd does: %v", err)
		}
	}
	all := []string{"CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SYS_ADMIN"}
	if lacks := recordWith(t, all); len(lacks) > 0 {
		t.Errorf("with the capabilities of the unit: %s", strings.Join(lacks, "; "))
	}
	if os.Getenv("CONNTAPE_TEST_LONG") == "" {
		return
	}
	for _, without := range all {
		lacks := recordWith(t, slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == without }))
		if len(lacks) == 0 {
			lacks = []string{"nothing is missing"}
		}
		t.Logf("CAPABILITY %d.%d %s without %s: %s", env.kernel[0], env.kernel[1], env.backend, without, strings.Join(lacks, "; "))
	}
}

// recordWith records with these capabilities and returns what is missing.
func recordWith(t *testing.T, capabilities []string) (lacks []string) {
	t.Helper()
	early := exec.Command(env.connects, "when-told")
	early.Dir = tempDir(t)
	release, said := startWaiting(t, early)
	dir := tempDir(t) + "/tape"
	r := startWith(t, capabilities, dir)
	for until := time.Now().Add(patience); !strings.Contains(r.said(), "recording to "); time.Sleep(50 * time.Millisecond) {
		select {
		case <-r.ended:
			return []string{"it does not start: " + firstError(r.said())}
		default:
		}
		if time.Now().After(until) {
			t.Fatalf("neither an end nor a beginning: %s", r.said())
		}
	}
	late, err := runConnects(inCgroup(t, exec.Command(env.connects, "flood", "10")))
	if err != nil {
		t.Fatal(err)
	}
	release()
	eventually(t, "the early one connects", func() bool { return strings.Count(said(), "\n") > 1 })
	r.end(t, syscall.SIGTERM)
	n := number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ? AND exe LIKE '%/connects%' AND cwd IS NOT NULL`, late.number("pid"))
	if n != 10 {
		lacks = append(lacks, fmt.Sprintf("%d of 10 connects of a process that began later", n))
	}
	if in := rows(t, dir, `SELECT DISTINCT cgroup FROM connections WHERE pid = ?`, late.number("pid")); len(in) != 1 || in[0].text("cgroup") != "/conntape-capabilities" {
		lacks = append(lacks, "the cgroup, and so the container")
	}
	list := rows(t, dir, `SELECT exe, cmdline, cwd FROM connections WHERE pid = ?`, early.Process.Pid)
	if len(list) == 0 {
		return append(lacks, "the connects of a process from before")
	}
	for _, column := range []string{"exe", "cmdline", "cwd"} {
		if list[0][column] == nil {
			lacks = append(lacks, column+" of processes from before")
		}
	}
	return lacks
}

// inCgroup has a command run in a cgroup of its own.
func inCgroup(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.Dir = tempDir(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(makeCgroup(t, "conntape-capabilities").Fd())}
	return cmd
}

// firstError is the error line of a program, short.
func firstError(said string) string {
	for line := range strings.Lines(said) {
		if strings.Contains(line, "error: ") {
			return strings.TrimSpace(line[:min(len(line), 200)])
		}
	}
	return said
}

// startWith starts a recorder as root without root's other privileges.
func startWith(t *testing.T, capabilities []string, dir string) *recorder {
	t.Helper()
	args := []string{strings.Join(capabilities, ","), env.conntape, "record", "--dir", dir}
	if env.backend != "" {
		args = append(args, "--backend", env.backend)
	}
	return start(t, dir, helperCommand("capabilities", args...))
}

// execWith executes a program with these capabilities and no way to get others.
func execWith(capabilities string, argv []string) error {
	runtime.LockOSThread()
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); err != nil && err != unix.EPERM {
		return err
	}
	for bit := range unix.CAP_LAST_CAP + 1 {
		keep := false
		for _, name := range strings.Split(capabilities, ",") {
			keep = keep || unitCapabilities[name] == bit
		}
		if !keep {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(bit), 0, 0, 0); err != nil && err != unix.EINVAL {
				return fmt.Errorf("drop capability %d: %w", bit, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec(argv[0], argv, slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, helperVariable+"=") }))
}
