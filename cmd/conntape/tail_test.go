package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conntape/conntape/store"
)

// liveMain is the command "fixture live DIR": a recorder that writes a connection
// to the port that each line of stdin names, and stops cleanly at its end. It is a
// process of its own, as a recorder is: a reader in the same process would drop
// its locks.
func liveMain(dir string) error {
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "1.2.3", Backend: "fexit", BootID: "00000000-0000-4000-8000-000000000001", Kernel: "6.1.0", Host: "web1"})
	if err != nil {
		return err
	}
	who := task(process(process(nil, 1, "systemd", "/usr/lib/systemd/systemd", "/sbin/init"), 950, "curl\x1b[31m", "/usr/bin/curl", "curl", hostileName))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		port, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		now, err := store.ReadAnchor("tick")
		if err != nil {
			return err
		}
		to := &store.Endpoint{Family: 2, Address: "203.0.113.10", Port: int32(port), Raw: []byte(lines.Text())}
		row := store.Connection{BootTime: now.Boot, Task: who, Remote: to, Shape: tcp(0), FD: 3}
		if err := w.Append(store.Batch{Connections: []store.Connection{row}, Now: now.Boot}); err != nil {
			return err
		}
	}
	return w.Close(store.Gap{}, nil)
}

// recorderProcess is a live fixture.
type recorderProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func startRecorder(t *testing.T, dir string) *recorderProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &recorderProcess{t: t, cmd: exec.Command(self)}
	r.cmd.Args = []string{"fixture", "live", dir}
	r.cmd.Env = append(os.Environ(), liveVariable+"="+dir)
	r.cmd.Stderr = os.Stderr
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.cmd.Process.Kill(); r.cmd.Wait() })
	return r
}

func (r *recorderProcess) connect(port int) {
	if _, err := fmt.Fprintln(r.stdin, port); err != nil {
		r.t.Error(err)
	}
}

func (r *recorderProcess) stop() {
	r.stdin.Close()
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("recorder: %v", err)
	}
}

func (r *recorderProcess) kill() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// liveVariable makes the test binary a live fixture.
const liveVariable = "CONNTAPE_TEST_LIVE"

// watched is output that can be waited for.
type watched struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// wait waits until the output holds a text.
func (w *watched) wait(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(w.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in\n%s", text, w)
		}
	}
}

// A tail shows each connection once, in order, while the recorder is stopped,
// killed and started again, and says so.
func TestTailFollows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	recorder := startRecorder(t, dir)
	recorder.connect(1001)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		tape, err := store.OpenTape(dir)
		if err == nil {
			tape.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	var stdout, stderr watched
	h, _, _ := world("")
	h.stdout, h.stderr, h.now = &stdout, &stderr, time.Now
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.run(ctx, []string{"tail", "--dir", dir, "--port", "1001", "--where", "1", "--all"}) }()
	recorder.connect(1002) // filtered
	recorder.connect(1001)
	waitLines(t, &stdout, 2)
	recorder.stop()
	stderr.wait(t, "recording STOPPED")
	recorder = startRecorder(t, dir)
	recorder.connect(1001)
	waitLines(t, &stdout, 3)
	stderr.wait(t, "recording again, by process ")
	stderr.wait(t, "connections lost: stopped")
	recorder.kill()
	recorder = startRecorder(t, dir)
	recorder.connect(1001)
	waitLines(t, &stdout, 4)
	stderr.wait(t, "connections lost: crash")
	recorder.stop()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(stdout.String()), "\n") {
		if !strings.Contains(line, ` curl\x1b[31m(950)  established  203.0.113.10:1001  curl "=cmd|'/c calc'\x1b[31m`) || strings.ContainsAny(line, "\x1b\a\u202e") {
			t.Errorf("line %q", line)
		}
	}
}

// waitLines waits until there are that many lines, and not more.
func waitLines(t *testing.T, w *watched, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); strings.Count(w.String(), "\n") < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %d lines in\n%s", n, w)
		}
	}
	if got := strings.Count(w.String(), "\n"); got != n {
		t.Fatalf("%d lines, want %d:\n%s", got, n, w)
	}
}

// What cannot be asked is said at once, and a stdout that is gone ends the tail.
func TestTailRefuses(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"--where exes=1":           "no such column: exes",
		"--where 1);drop(":         "more than one statement",
		"--to 10.0.0.0/99":         `cannot read address "10.0.0.0/99"`,
		"--format html":            "unknown format",
		"--port x":                 "takes a whole number",
		"--dir /nonexistent/conn ": "no tape",
	} {
		h, stdout, stderr := world("")
		code := h.report(h.run(context.Background(), append([]string{"tail", "--dir", tape, "--limit", "1"}, strings.Fields(line)...)))
		if code == exitDone || !strings.Contains(stderr.String(), want) || stdout.Len() > 0 {
			t.Errorf("%s: exit %d, %s%s", line, code, stdout, stderr)
		}
	}
	h, _, _ := world("")
	h.stdout = brokenWriter{}
	if err := h.run(context.Background(), []string{"tail", "--dir", tape}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a closed stdout gives %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
