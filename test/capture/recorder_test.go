package capture

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is the timeout for anything that should happen soon. An emulated machine beside three others on a busy host takes three
// minutes and more to load the programs of a second recorder.
const patience = 8 * time.Minute

// A recorder is a running `conntape record`.
type recorder struct {
	dir    string
	cmd    *exec.Cmd
	stdout strings.Builder
	ended  chan error // what Wait returned, once

	mu     sync.Mutex
	stderr []string
}

// tempDir is like t.TempDir, but short enough for UNIX socket addresses and open to other users.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ct")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// record starts a recorder on a tape directory and waits till it says that it is recording.
func record(t testing.TB, dir string, flags ...string) *recorder {
	t.Helper()
	r := launch(t, dir, flags...)
	r.waitFor(t, "recording ")
	return r
}

// launch starts a recorder and does not wait.
func launch(t testing.TB, dir string, flags ...string) *recorder {
	t.Helper()
	args := []string{"record", "--dir", dir}
	if env.backend != "" {
		args = append(args, "--backend", env.backend)
	}
	if env.inGuest && !slices.Contains(flags, withHashes) {
		args = append(args, "--no-hashes")
	}
	return start(t, dir, exec.Command(env.conntape, append(args, flags...)...))
}

// withHashes has programs read in a guest, too. An emulated processor, which makes 3 MiB of SHA-256 a second beside other guests, would do so
// for half a minute at each start.
const withHashes = "--no-hashes=false"

// start runs a command that records.
func start(t testing.TB, dir string, cmd *exec.Cmd) *recorder {
	t.Helper()
	r := &recorder{dir: dir, cmd: cmd, ended: make(chan error, 1)}
	r.cmd.Stdout = &r.stdout
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.readLines(stderr)
		r.ended <- r.cmd.Wait()
	}()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("the recorder said: %s\nits tape says:\n%s", r.said(), tellTape(dir))
		}
	})
	return r
}

func (r *recorder) readLines(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			r.mu.Lock()
			r.stderr = append(r.stderr, strings.TrimRight(line, "\n"))
			r.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// said returns what the recorder has printed on stderr so far.
func (r *recorder) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.stderr, "\n")
}

func (r *recorder) waitFor(t testing.TB, word string) {
	t.Helper()
	eventually(t, "the recorder says "+word, func() bool {
		select {
		case err := <-r.ended:
			t.Fatalf("the recorder ended (%v) before it said %q:\n%s", err, word, r.said())
		default:
		}
		return strings.Contains(r.said(), word)
	})
}

// stop sends SIGTERM and wants a clean end; then the account of the tape must be right.
func (r *recorder) stop(t testing.TB) {
	t.Helper()
	r.end(t, syscall.SIGTERM)
	checkAccount(t, r.dir)
}

// end sends a signal and wants exit status 0, nothing on stdout and no panic.
func (r *recorder) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal the recorder: %v; it said:\n%s", err, r.said())
	}
	if err := r.wait(t); err != nil {
		t.Errorf("after %v the recorder ended with %v; it said:\n%s", sig, err, r.said())
	}
	if r.stdout.Len() > 0 {
		t.Errorf("stdout is for data, and record has none, yet it printed:\n%s", r.stdout.String())
	}
}

// kill ends the recorder as a crash would.
func (r *recorder) kill(t testing.TB) {
	t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill the recorder: %v; it said:\n%s", err, r.said())
	}
	var status *exec.ExitError
	if err := r.wait(t); !errors.As(err, &status) {
		t.Fatalf("the recorder was to be killed, but ended with %v:\n%s", err, r.said())
	}
}

func (r *recorder) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- err
		if s := r.said(); strings.Contains(s, "panic:") || strings.Contains(s, "goroutine ") {
			t.Errorf("the recorder panicked:\n%s", s)
		}
		return err
	case <-time.After(patience):
		r.cmd.Process.Signal(syscall.SIGQUIT)
		time.Sleep(time.Second)
		t.Fatalf("the recorder does not end; it said:\n%s", r.said())
		return nil
	}
}

// eventually polls for a condition.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		begin := time.Now()
		if done() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		// An emulated processor takes a second to open a tape: asking without a pause, it would do nothing else.
		time.Sleep(max(50*time.Millisecond, 2*time.Since(begin)))
	}
}
