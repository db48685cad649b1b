package recorder

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeProc writes /proc/PID/stat and cmdline below dir.
func fakeProc(t testing.TB, dir string, pid uint32, start uint64, cmdline string) {
	t.Helper()
	p := filepath.Join(dir, fmt.Sprint(pid))
	if err := os.MkdirAll(p, 0o755); err != nil {
		t.Fatal(err)
	}
	stat := fmt.Sprintf("%d (a) b) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0", pid, start/tickNS)
	for name, text := range map[string]string{"stat": stat, "cmdline": cmdline} {
		if err := os.WriteFile(filepath.Join(p, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProcfsArgv(t *testing.T) {
	dir := t.TempDir()
	const start = 123_456_789_012
	fakeProc(t, dir, 7, start, "sh\x00-c\x00\x00exit\x00")
	fakeProc(t, dir, 8, start, "nginx: master\x00\x00\x00\x00")
	fakeProc(t, dir, 9, start, strings.Repeat("x", maxArgv)+"\x00")
	p := procfs{root: dir}
	for _, c := range []struct {
		pid       uint32
		argv      []string
		truncated bool
	}{
		{7, []string{"sh", "-c", "", "exit"}, false},
		{8, []string{"nginx: master"}, false},
		{9, []string{strings.Repeat("x", maxArgv)}, true},
	} {
		argv, truncated, err := p.argv(c.pid, start)
		if err != nil || truncated != c.truncated || !slices.Equal(argv, c.argv) {
			t.Errorf("argv(%d) = %q, %v, %v", c.pid, argv, truncated, err)
		}
	}
	if _, _, err := p.argv(7, start+tickNS); !errors.Is(err, errOther) {
		t.Errorf("a reused pid: %v", err)
	}
	if _, _, err := p.argv(7, start-start%tickNS+tickNS-1); err != nil {
		t.Errorf("another time in the same tick: %v", err)
	}
	if _, _, err := p.argv(10, start); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a pid that is gone: %v", err)
	}
}

// What /proc shows of a process that is ending, at an exec, or has wiped its arguments is not what it was given.
func TestProcfsShowsNoArguments(t *testing.T) {
	dir := t.TempDir()
	const start = 123_456_789_012
	for pid, cmdline := range map[uint32]string{7: "", 8: "\x00", 9: strings.Repeat("\x00", 100)} {
		fakeProc(t, dir, pid, start, cmdline)
		if argv, _, err := (procfs{root: dir}).argv(pid, start); !errors.Is(err, errNoArgv) {
			t.Errorf("of %q: %q, %v", cmdline, argv, err)
		}
	}
}

func TestProcfsOfAZombie(t *testing.T) {
	child := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := child.Start(); err != nil {
		t.Skip(err)
	}
	defer child.Wait()
	if err := unix.Waitid(unix.P_PID, child.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := startTicks(string(stat))
	if err != nil {
		t.Fatal(err)
	}
	if argv, _, err := (procfs{root: "/proc"}).argv(uint32(child.Process.Pid), ticks*tickNS); !errors.Is(err, errNoArgv) {
		t.Errorf("argv = %q, %v, of a process that has ended", argv, err)
	}
}

func TestProcfsOfThisProcess(t *testing.T) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Skip(err)
	}
	ticks, err := startTicks(string(stat))
	if err != nil {
		t.Fatal(err)
	}
	argv, _, err := procfs{root: "/proc"}.argv(uint32(os.Getpid()), ticks*tickNS)
	if err != nil || !slices.Equal(argv, os.Args) {
		t.Errorf("argv = %q, %v, want %q", argv, err, os.Args)
	}
}

func FuzzStartTicks(f *testing.F) {
	f.Add("1 (systemd) S 0 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 42 0 0")
	f.Add("1 () ) ( S")
	f.Add("")
	f.Fuzz(func(t *testing.T, stat string) {
		if ticks, err := startTicks(stat); err != nil && ticks != 0 {
			t.Errorf("%d beside %v", ticks, err)
		}
	})
}

func TestSplitArgv(t *testing.T) {
	for raw, want := range map[string][]string{
		"":              nil,
		"a\x00":         {"a"},
		"a":             {"a"},
		"a\x00b":        {"a", "b"},
		"\x00":          {""},
		"a\x00\x00":     {"a", ""},
		"\x00\x00a\x00": {"", "", "a"},
	} {
		if got := splitArgv([]byte(raw)); !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("splitArgv(%q) = %q, want %q", raw, got, want)
		}
	}
}
