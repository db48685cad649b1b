package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A pseudoterminal with the program at its other end.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	shown  watched // stdout
	stderr watched
	copied chan struct{}
}

// startOnTerminal runs the program with a terminal of that many columns as its
// stdin, stdout and controlling terminal.
func startOnTerminal(t *testing.T, columns uint16, environment []string, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals: %v", err)
	}
	raw := int(master.Fd())
	number, err := unix.IoctlGetInt(raw, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(raw, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(raw, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: columns}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	program := filepath.Join(t.TempDir(), "conntape")
	copyProgram(t, program)
	c := &terminal{t: t, master: master, cmd: exec.Command(program, args...), copied: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, slave, &c.stderr
	c.cmd.Env = append(append(os.Environ(), "TERM=xterm"), environment...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.cmd.Process.Kill(); c.cmd.Wait(); master.Close() })
	go func() {
		io.Copy(&c.shown, master) // ends with EIO when the program has ended
		close(c.copied)
	}()
	return c
}

func (c *terminal) press(keys string) {
	if _, err := io.WriteString(c.master, keys); err != nil {
		c.t.Error(err)
	}
}

// end waits for the program and returns its exit code.
func (c *terminal) end() int {
	c.cmd.Wait()
	<-c.copied
	return c.cmd.ProcessState.ExitCode()
}

// At a terminal there is a prompt, Tab completes, what is wrong does not end it,
// Ctrl-C stops a question and not the shell, and what was typed is kept.
func TestShellOnTerminal(t *testing.T) {
	tape, state := filepath.Join(t.TempDir(), "tape"), t.TempDir()
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	c := startOnTerminal(t, 100, []string{"XDG_STATE_HOME=" + state}, "query", "shell", "--dir", tape, "--limit", "2")
	c.shown.wait(t, "conntape> ")
	c.press("select remote_add\t from connections where pid = 9040;\r")
	c.shown.wait(t, "10.0.5.9")
	c.press("select nothere;\r")
	c.stderr.wait(t, "no such column: nothere")
	c.press("select pid\rfrom connections;\r")
	c.shown.wait(t, "     ...> ")
	c.stderr.wait(t, "cut after 2 rows: row limit of 2")
	c.press("with recursive n(i) as (select 1 union all select i+1 from n) select max(i) from n;\r")
	c.shown.wait(t, "max(i) from n;")
	for deadline := 0; !strings.Contains(c.stderr.String(), "error: stopped"); deadline++ {
		if deadline == 300 {
			t.Fatalf("Ctrl-C does not stop a question:\n%s\n%s", &c.shown, &c.stderr)
		}
		c.press("\x03") // at first it may still be the key that forgets a line
		unix.Nanosleep(&unix.Timespec{Nsec: 100_000_000}, nil)
	}
	c.press(".tables\r")
	c.shown.wait(t, "endpoints")
	c.press("\x04")
	if code := c.end(); code != exitDone {
		t.Errorf("exit %d: %s", code, &c.stderr)
	}
	history, err := os.ReadFile(filepath.Join(state, "conntape", "history"))
	if err != nil || !strings.Contains(string(history), "select pid from connections;\n") || !strings.Contains(string(history), "select remote_address from connections") {
		t.Errorf("history %q, %v", history, err)
	}
	if info, err := os.Stat(filepath.Join(state, "conntape", "history")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("history: %v, %v", info, err)
	}
}

// On a terminal a table has colours, unless NO_COLOR says otherwise; and a question
// that takes longer than a second says that it is at work.
func TestColoursAndProgressOnTerminal(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	for _, noColor := range []string{"", "1"} {
		c := startOnTerminal(t, 200, []string{"NO_COLOR=" + noColor}, "query", "recent", "--dir", tape, "--limit", "5")
		if code := c.end(); code != exitDone || !strings.Contains(c.shown.String(), "unreachable") {
			t.Errorf("exit %d: %s", code, &c.shown)
		}
		if painted := strings.Contains(c.shown.String(), "\x1b[33munreachable\x1b[0m"); painted != (noColor == "") {
			t.Errorf("NO_COLOR=%s: %q", noColor, &c.shown)
		}
	}
	h, _, _ := world("")
	var stderr watched
	h.stderr, h.watched = &stderr, func() bool { return true }
	const slow = "with recursive n(i) as (select 1 union all select i+1 from n) select max(i) from n"
	if err := h.run(context.Background(), []string{"query", "sql", slow, "--dir", tape, "--timeout", "2500ms", "--format", "csv"}); !errors.Is(err, errCut) {
		t.Error(err)
	}
	if !strings.Contains(stderr.String(), "conntape: rows") {
		t.Errorf("no progress: %q", &stderr)
	}
	stderr.buf.Reset()
	if err := h.run(context.Background(), []string{"query", "recent", "--dir", tape}); err != nil || strings.Contains(stderr.String(), "conntape: rows") {
		t.Errorf("progress of a quick answer: %q, %v", &stderr, err)
	}
}
