package capture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSignals: SIGINT and SIGTERM write what was seen up to then, say so in a gap and end with status 0.
func TestSignals(t *testing.T) {
	for name, signals := range map[string][]syscall.Signal{
		"SIGTERM": {syscall.SIGTERM}, "SIGINT": {syscall.SIGINT}, "both": {syscall.SIGTERM, syscall.SIGINT},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			tape := record(t, dir)
			o := mustRun(t, "flood", "1000")
			for _, s := range signals {
				if err := tape.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
			}
			if err := tape.wait(t); err != nil {
				t.Errorf("it ended with %v: %s", err, tape.said())
			}
			ended := time.Now()
			checkAccount(t, dir)
			if n := number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ?`, o.number("pid")); n != 1000 {
				t.Errorf("want all 1000 connects, got %d", n)
			}
			open := rows(t, dir, `SELECT * FROM gaps WHERE to_ns IS NULL`)
			if len(open) != 1 {
				t.Fatalf("want one open gap, got %v", open)
			}
			match(t, "gap", open[0], want{"from_ns": between(ended.Add(-10*time.Second).UnixNano(), ended.UnixNano()), "lost": 0,
				"cause": anything})
			t.Logf("gap: %s: %s", open[0].text("cause"), open[0].text("detail"))
		})
	}
}

// TestSignalAtStart: a signal at any moment of the start ends the recorder and leaves a tape that opens, or none.
func TestSignalAtStart(t *testing.T) {
	rounds := scaled(9, 3)
	for i := range rounds {
		delay := time.Duration(i) * time.Second / time.Duration(rounds)
		dir := tempDir(t)
		tape := launch(t, dir)
		time.Sleep(delay)
		tape.cmd.Process.Signal(syscall.SIGTERM)
		err := tape.wait(t)
		var status *exec.ExitError
		if errors.As(err, &status) && status.Sys().(syscall.WaitStatus).Signaled() && tape.said() == "" && len(filesIn(t, dir)) == 0 {
			continue // it had not begun: on a busy machine that takes a while
		}
		if err != nil {
			t.Errorf("SIGTERM after %v: %v: %s", delay, err, tape.said())
		}
		if strings.Contains(tape.said(), "recording ") {
			checkAccount(t, dir)
		}
	}
}

func filesIn(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestSecondRecorder: a tape has one recorder. The second says who it is, and does the first no harm.
func TestSecondRecorder(t *testing.T) {
	dir := tempDir(t)
	first := record(t, dir)
	second := launch(t, dir)
	err := second.wait(t)
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 1 {
		t.Errorf("the second recorder ended with %v, want exit status 1", err)
	}
	said := second.said()
	if !strings.Contains(said, "conntape: error: ") || !strings.Contains(said, fmt.Sprint(first.cmd.Process.Pid)) {
		t.Errorf("the second recorder does not name process %d:\n%s", first.cmd.Process.Pid, said)
	}
	if lines := strings.Count(said, "\n") + 1; lines > 2 {
		t.Errorf("an error is one line, and perhaps a hint; this is %d:\n%s", lines, said)
	}
	o := mustRun(t, "flood", "1000")
	first.stop(t)
	if n := number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ?`, o.number("pid")); n != 1000 {
		t.Errorf("the first recorder has %d of 1000 connects", n)
	}
	third := record(t, dir)
	third.stop(t)
}

// TestStderrGone: who watched the recorder has gone (`conntape record 2>&1 | head`). It goes on.
func TestStderrGone(t *testing.T) {
	dir := tempDir(t)
	tape := recordInto(t, dir)
	o := mustRun(t, "flood", "1000")
	eventually(t, "the connects are on the tape", func() bool {
		return number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ?`, o.number("pid")) == 1000
	})
	if err := tape.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := tape.Wait(); err != nil {
		t.Errorf("the recorder ended with %v", err)
	}
	checkAccount(t, dir)
}

// recordInto starts a recorder whose stderr nobody reads after the first line about recording.
func recordInto(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	args := []string{"record", "--dir", dir}
	if env.backend != "" {
		args = append(args, "--backend", env.backend)
	}
	cmd := exec.Command(env.conntape, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	said, buffer := "", make([]byte, 512)
	for !strings.Contains(said, "recording ") {
		n, err := stderr.Read(buffer)
		if said += string(buffer[:n]); err != nil {
			t.Fatalf("the recorder ended: %s", said)
		}
	}
	stderr.Close()
	return cmd
}
