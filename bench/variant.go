package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/conntape/conntape/bpf"
)

// Names of the variants.
const (
	bare     = "bare"
	empty    = "empty programs"
	conntape = "conntape"
	bpftrace = "bpftrace"
	auditd   = "auditd"
)

// A variant is a way of watching connects that can be started and stopped.
type variant struct {
	name   string
	start  func(ctx context.Context) (stop func() (note string, err error), err error)
	frames func() (stop func() error, err error) // what it adds while a packet socket is open, nil nothing
}

// A rig holds the common settings of the variants.
type rig struct {
	conntape string // path of the binary
	backend  bpf.Backend
	dir      string // for their files
	cpu      int    // the variants' processor; the measured thread has another
}

// variants returns the variants that can run here, and a reason for each other one.
func (r *rig) variants() (list []variant, skipped map[string]string) {
	skipped = map[string]string{}
	list = []variant{
		{name: bare, start: func(context.Context) (func() (string, error), error) {
			return func() (string, error) { return "", nil }, nil
		}},
		{name: empty, frames: func() (func() error, error) { return startEmptyFrames(r.backend) }, start: func(context.Context) (func() (string, error), error) {
			stop, err := startEmpty(r.backend)
			if err != nil {
				return nil, err
			}
			return func() (string, error) { return "", stop() }, nil
		}},
		{name: conntape, start: r.startConntape},
	}
	if reason := bpftraceMissing(); reason != "" {
		skipped[bpftrace] = reason
	} else {
		list = append(list, variant{name: bpftrace, start: r.startBpftrace})
	}
	if reason := auditMissing(); reason != "" {
		skipped[auditd] = reason
	} else {
		list = append(list, variant{name: auditd, start: r.startAuditd})
	}
	return list, skipped
}

// pinned is a command that runs on the rig's processor and ends with this process.
func (r *rig) pinned(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", strconv.Itoa(r.cpu), name}, args...)...)
	if _, err := exec.LookPath("taskset"); err != nil { // a guest has no taskset and only one processor
		cmd = exec.CommandContext(ctx, name, args...)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// A recording is a running conntape record.
type recording struct {
	cmd    *exec.Cmd
	tape   string
	stderr *output
}

// record starts conntape on a new tape and waits until it records.
func (r *rig) record(ctx context.Context, flags ...string) (*recording, error) {
	tape, err := os.MkdirTemp(r.dir, "tape-")
	if err != nil {
		return nil, err
	}
	args := append([]string{"record", "--dir", tape, "--backend", string(r.backend)}, flags...)
	rec := &recording{cmd: r.pinned(ctx, r.conntape, args...), tape: tape, stderr: &output{}}
	rec.cmd.Stderr = rec.stderr
	if err := rec.cmd.Start(); err != nil {
		return nil, err
	}
	if err := waitFor(func() bool { return rec.stderr.contains("recording to") }); err != nil {
		return nil, errors.Join(fmt.Errorf("start conntape: %w: %s", err, rec.stderr), rec.cmd.Process.Kill(), rec.cmd.Wait())
	}
	return rec, nil
}

// stop ends the recording and returns its summary.
func (rec *recording) stop() (string, error) {
	if err := rec.cmd.Process.Signal(os.Interrupt); err != nil {
		return "", err
	}
	if err := rec.cmd.Wait(); err != nil {
		return "", fmt.Errorf("conntape: %w: %s", err, rec.stderr)
	}
	_, words, ok := strings.Cut(rec.stderr.String(), "conntape: stopped: ")
	if !ok {
		return "", fmt.Errorf("conntape does not say how it went: %s", rec.stderr)
	}
	return strings.TrimSpace(words), nil
}

func (r *rig) startConntape(ctx context.Context) (func() (string, error), error) {
	rec, err := r.record(ctx)
	if err != nil {
		return nil, err
	}
	return func() (string, error) {
		note, err := rec.stop()
		return note, errors.Join(err, os.RemoveAll(rec.tape))
	}, nil
}

// bpftraceProgram records about the same as conntape in a few lines.
const bpftraceProgram = `
tracepoint:syscalls:sys_enter_connect { @fd[tid] = args->fd; @address[tid] = args->uservaddr; }
tracepoint:syscalls:sys_exit_connect /@address[tid]/ {
	$to = (struct sockaddr_in *)@address[tid];
	printf("%llu %d %d %d %s %d %s %d %d\n", nsecs, pid, tid, uid, comm, @fd[tid],
		ntop(2, $to->sin_addr.s_addr), $to->sin_port, args->ret);
	delete(@fd[tid]); delete(@address[tid]);
}`

func bpftraceMissing() string {
	if _, err := exec.LookPath("bpftrace"); err != nil {
		return "it is not installed (apt-get install bpftrace)"
	}
	return ""
}

var lostEvents = regexp.MustCompile(`Lost (\d+) events`)

func (r *rig) startBpftrace(ctx context.Context) (func() (string, error), error) {
	file := filepath.Join(r.dir, "bpftrace.out")
	cmd := r.pinned(ctx, "bpftrace", "-o", file, "-e", bpftraceProgram)
	messages := &output{}
	cmd.Stdout, cmd.Stderr = messages, messages
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	attached := func() bool {
		text, err := os.ReadFile(file)
		return err == nil && bytes.Contains(text, []byte("Attaching"))
	}
	if err := waitFor(attached); err != nil {
		return nil, errors.Join(fmt.Errorf("start bpftrace: %w: %s", err, messages), cmd.Process.Kill(), cmd.Wait())
	}
	return func() (string, error) {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return "", err
		}
		err := cmd.Wait()
		text, readErr := os.ReadFile(file)
		lost := 0
		for _, m := range lostEvents.FindAllStringSubmatch(string(text)+messages.String(), -1) {
			n, _ := strconv.Atoi(m[1])
			lost += n
		}
		return fmt.Sprintf("%d lines, %d lost", bytes.Count(text, []byte("\n")), lost),
			errors.Join(err, readErr, os.Remove(file))
	}, nil
}

// waitFor waits until a started program is ready.
func waitFor(ready func() bool) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ready() {
			time.Sleep(300 * time.Millisecond) // and past its first work
			return nil
		}
	}
	return errors.New("it is not ready after 30 seconds")
}

// isRunning reports whether a process with this pid exists.
func isRunning(pid int) bool { return syscall.Kill(pid, 0) == nil }

// countLines counts the lines of a file that contain word.
func countLines(file, word string) (int, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(word)) {
			n++
		}
	}
	return n, lines.Err()
}
