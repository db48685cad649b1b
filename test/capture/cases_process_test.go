package capture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/conntape/conntape/store/escape"
)

// runKilled: the program is to die of SIGKILL in the middle of its connect.
func runKilled(t *testing.T, dir string) (outcome, error) {
	cmd := exec.Command(env.connects, "killed")
	cmd.Dir = dir
	o, err := runConnects(cmd)
	var status *exec.ExitError
	if errors.As(err, &status) && status.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return o, nil
	}
	return o, fmt.Errorf("it was to be killed, and ended with %v", err)
}

// processCases: who connected, without an exec in between.
func processCases() []testCase {
	return append(justName("thread", "thread-comm", "leader-gone", "seteuid"),
		testCase{name: "fork", check: func(t *testing.T, c *caseRun) {
			child, parent := c.of(t, "child"), c.of(t, "parent")
			if child["parent_id"] != parent["process_id"] || child["process_id"] == parent["process_id"] {
				t.Errorf("the child's parent is %v, want %v", child["parent_id"], parent["process_id"])
			}
		}},
		testCase{name: "vfork", check: wantParentRow},
		testCase{name: "daemon", check: checkDaemon, all: expectation{want: want{"ppid": from(func(c *caseRun) any { return c.number("between") })}}},
		testCase{name: "setuid", all: expectation{want: want{"user": nil}, process: want{"uid": 0, "gid": 0, "euid": 0}}},
		testCase{name: "loginuid", all: expectation{want: want{"loginuid": 54321}}},
		testCase{name: "comm", args: []string{"comm", "1b5b33316d3e28290aff"}, all: expectation{want: want{"comm": `\x1b[31m>()\x0a\xff`}}},
		testCase{name: "argv-overwritten", args: []string{"argv-overwritten", "--password=hunter2"}},
		testCase{name: "pid-namespace", steps: map[string]expectation{"child": {
			want:    want{"ppid": from(func(c *caseRun) any { return c.reports[1].PID })},
			process: want{"pid_in_ns": 1},
		}}},
	)
}

func wantParentRow(t *testing.T, c *caseRun) {
	t.Helper()
	for _, f := range c.found {
		for _, r := range f.rows {
			parent := ask(t, c.tape, `SELECT * FROM processes WHERE process_id = ?`, r["parent_id"])
			if len(parent) != 1 || parent[0].int("pid") != f.report.PPID {
				t.Errorf("%s: the parent %d is not on the tape: %v", f.report.Step, f.report.PPID, parent)
			}
		}
	}
}

// checkDaemon: the process in between has left, and still stands in the line of descent.
func checkDaemon(t *testing.T, c *caseRun) {
	r := c.of(t, "daemon")
	comm := r.text("comm")
	line := fmt.Sprintf(" > %s(%d) > %s(%d) > %s(%d)", comm, c.number("first"), comm, c.number("between"), comm, r.int("pid"))
	if !strings.HasSuffix(r.text("ancestry"), line) {
		t.Errorf("ancestry %q does not end in %q", r.text("ancestry"), line)
	}
	if !strings.Contains(r.text("ancestry"), fmt.Sprintf("(%d)", os.Getpid())) {
		t.Errorf("ancestry %q does not go through this test, %d", r.text("ancestry"), os.Getpid())
	}
}

const oneArgs = " one udp 127.0.0.1 4242"

func inDir(name string) from {
	return func(c *caseRun) any { return escape.Bytes([]byte(filepath.Join(c.dir, name))) }
}

// execCases: which program connected.
func execCases() []testCase {
	ran := func(argv0 string, other want) want { return want{"cmdline": argv0 + oneArgs}.but(other) }
	return []testCase{
		{name: "posix-spawn", all: expectation{want: ran("spawned", nil)}, check: wantParentRow},
		{name: "exec-twice", check: checkExecTwice, steps: map[string]expectation{
			"second": {want: want{"cmdline": "again exec-twice 2"}},
			"third":  {want: want{"cmdline": "again exec-twice 3"}},
		}},
		{name: "exec-thread", all: expectation{want: ran("from-thread", nil)}},
		{name: "exec-deleted", all: expectation{want: ran("deleted", want{"exe": inDir("deleted")}), process: want{"exe_deleted": 1}}},
		{name: "unlink-self", all: expectation{want: want{"exe": inDir("gone")}}, command: func(t *testing.T, dir string) *exec.Cmd {
			return exec.Command(copyConnects(t, dir, "gone"), "unlink-self")
		}},
		{name: "exec-memfd", all: expectation{want: want{"cmdline": "[kworker/0:0]" + oneArgs, "exe": has("memfd:hidden")},
			process: want{"exe_memfd": 1}}},
		{name: "exec-mounted", all: expectation{want: ran("mounted", want{"exe": inDir("a/b/c/program")}), process: want{"mntns_is_host": 0}}},
		{name: "exec-chroot", all: expectation{want: ran("jailed", want{"exe": inDir("jail/bin/program"), "cwd": inDir("jail")})}},
		{name: "exec-deep", args: []string{"exec-deep", "300"}, all: expectation{want: ran("deep", want{
			"exe": inDir(strings.Repeat("directory/", 300) + "program"), "cwd": inDir(strings.Repeat("directory/", 300))})}},
		// Longer than PATH_MAX: the end of the path must be there, and must not pass for the whole.
		{name: "exec-very-deep", args: []string{"exec-deep", "500"}, all: expectation{want: ran("deep", want{"exe": cutPath("directory/program"), "cwd": cutPath("directory")})}},
		{name: "pid-reuse", check: checkPIDReuse, all: expectation{want: want{"cmdline": anything}}},
		{name: "script", command: func(t *testing.T, dir string) *exec.Cmd {
			return exec.Command(writeFile(t, dir, "run.sh", "#!"+env.connects+" script\n"), "argument")
		}, all: expectation{
			want:    want{"cmdline": from(func(c *caseRun) any { return env.connects + " script " + c.dir + "/run.sh argument" })},
			process: want{"script": inDir("run.sh")},
		}},
		{name: "script-relative", command: func(t *testing.T, dir string) *exec.Cmd {
			writeFile(t, dir, "run.sh", "#!"+env.connects+" script\n")
			return &exec.Cmd{Path: "./run.sh", Args: []string{"./run.sh"}}
		}, all: expectation{
			want:    want{"cmdline": env.connects + " script ./run.sh"},
			process: want{"script": inDir("run.sh")},
		}},
		{name: "script-of-script", command: func(t *testing.T, dir string) *exec.Cmd {
			inner := writeFile(t, dir, "inner.sh", "#!"+env.connects+" script\n")
			return exec.Command(writeFile(t, dir, "outer.sh", "#!"+inner+"\n"))
		}, all: expectation{
			want:    want{"cmdline": from(func(c *caseRun) any { return env.connects + " script " + c.dir + "/inner.sh " + c.dir + "/outer.sh" })},
			process: want{"script": inDir("outer.sh")},
		}},
	}
}

func cutPath(end string) test {
	return test{says: "a path that ends in " + end + " and shows that it was cut", ok: func(v any) bool {
		s, _ := v.(string)
		return strings.HasSuffix(s, "/"+end) && (!strings.HasPrefix(s, "/") || len(s) > 500*len("directory/"))
	}}
}

// checkExecTwice: one pid, three processes, the same parent.
func checkExecTwice(t *testing.T, c *caseRun) {
	first := ask(t, c.tape, `SELECT * FROM processes WHERE process_id = ?`, c.of(t, "first")["process_id"])[0]
	for i, step := range []string{"second", "third"} {
		p := ask(t, c.tape, `SELECT * FROM processes WHERE process_id = ?`, c.of(t, step)["process_id"])[0]
		match(t, step, p, want{"parent_id": first["parent_id"], "exec_number": first.int("exec_number") + int64(i) + 1,
			"start_time": first["start_time"]})
	}
}

// checkPIDReuse: the same pid twice, and neither has anything of the other.
func checkPIDReuse(t *testing.T, c *caseRun) {
	if len(c.found) != 2 || c.reports[0].PID != c.reports[1].PID {
		t.Fatalf("the pid was not used twice: %+v", c.reports)
	}
	a, b := c.found[0].rows[0], c.found[1].rows[0]
	match(t, "first life", a, want{"cmdline": "first-life one udp 127.0.0.1 4242", "remote_port": 4242})
	match(t, "second life", b, want{"cmdline": "second-life one udp 127.0.0.1 4243", "remote_port": 4243})
	if a["process_id"] == b["process_id"] {
		t.Error("two lives are one process")
	}
}

func copyConnects(t *testing.T, dir, name string) string {
	t.Helper()
	program, err := os.ReadFile(env.connects)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, name, string(program))
}

// hostile is a name that clears the screen, breaks the line, is not UTF-8, turns the text around and is quoted.
const hostile = "\x1b[2J\r\n\xff\xfe\u202egnp.\u200b\"'\\ $(reboot)"

// nameCases: what programs call themselves, and how long.
func nameCases() []testCase {
	longArgv := func(name string, total int) testCase {
		return testCase{name: name, command: func(t *testing.T, dir string) *exec.Cmd {
			cmd := exec.Command(env.connects, "script")
			return exec.Command(env.connects, "script", strings.Repeat("a", total-len(strings.Join(cmd.Args, " "))-2))
		}}
	}
	over := longArgv("argv-4097", 4097)
	over.all = cutArgv
	long := longArgv("argv-100000", 100000)
	long.all = cutArgv
	return []testCase{
		longArgv("argv-4096", 4096), over, long,
		{name: "argv-many", all: cutArgv, command: func(t *testing.T, dir string) *exec.Cmd {
			return exec.Command(env.connects, append([]string{"script"}, strings.Split(strings.Repeat("word ", 2000), " ")...)...)
		}},
		{name: "argv-odd", args: []string{"script", "", "two words", `quo"te`, `back\slash`, "it's", " "}},
		{name: "hostile-argv", args: []string{"script", hostile}},
		{name: "hostile-argv0", command: func(t *testing.T, dir string) *exec.Cmd {
			return &exec.Cmd{Path: env.connects, Args: []string{hostile, "script"}}
		}},
		{name: "hostile-exe", all: expectation{want: want{"exe": inDir(hostile)}}, command: func(t *testing.T, dir string) *exec.Cmd {
			return exec.Command(copyConnects(t, dir, hostile), "script")
		}, check: func(t *testing.T, c *caseRun) {
			if a := c.of(t, "connect").text("ancestry"); strings.ContainsAny(a, "\x1b\r\n\u202e") {
				t.Errorf("ancestry holds a control character: %q", a)
			}
		}},
		{name: "forged-ancestry", check: func(t *testing.T, c *caseRun) {
			r := c.of(t, "connect")
			if line := fmt.Sprintf(`\x29 \x3e init\x281\x29(%d)`, r.int("pid")); !strings.HasSuffix(r.text("ancestry"), line) {
				t.Errorf("ancestry %q does not end in %q", r.text("ancestry"), line)
			}
		}, command: func(t *testing.T, dir string) *exec.Cmd {
			return exec.Command(copyConnects(t, dir, ") > init(1)"), "script")
		}, all: expectation{want: want{"exe": inDir(") > init(1)")}}},
	}
}

// cutArgv: at least the first 4000 bytes are there, all that is there is right, and the row says that more is missing.
var cutArgv = expectation{
	want: want{"cmdline": from(func(c *caseRun) any {
		whole := escape.Cmdline(c.argv)
		return test{says: "the beginning of a long command line", ok: func(v any) bool {
			s, _ := v.(string)
			return len(s) > 4000 && len(s) <= len(whole) && strings.HasPrefix(whole, s)
		}}
	})},
	process: want{"cmdline_truncated": 1},
}
