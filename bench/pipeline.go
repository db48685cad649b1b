package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A pipelineRun is the result of recording one full ring.
type pipelineRun struct {
	Events int
	CPU    time.Duration // user and system time of the recorder
	User   time.Duration
	Wall   time.Duration // from the first read to the last commit
	Words  string        // the recorder's own report
}

// ticksPerSecond is USER_HZ, the unit of /proc/PID/stat.
const ticksPerSecond = 100

// measurePipeline stops the recorder (SIGSTOP), fills the kernel's ring with real connects, lets the recorder continue
// (SIGCONT) on one processor, and waits until everything is committed. So the recorder does all its work for each event
// at its own speed, and the connects themselves are not measured. While a flood of TCP runs the recorder does, too: the ring
// of outcomes is small, and CPU time is counted for the recorder alone. A flood comes before the one that is measured, for the price of an
// event is asked, not that of a start: the program that connects is read and hashed once (20 MB, a tenth of a second), and the
// first touch of a page of memory takes up to 16 µs where the hypervisor has to find it.
func measurePipeline(ctx context.Context, start func() (*recording, error), f flood, profiled bool) (run pipelineRun, err error) {
	rec, err := start()
	if err != nil {
		return run, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, rec.cmd.Process.Signal(syscall.SIGCONT), rec.cmd.Process.Kill())
			rec.cmd.Wait()
		}
		err = errors.Join(err, os.RemoveAll(rec.tape))
	}()
	pid := rec.cmd.Process.Pid
	first := f
	if f.tcp {
		first.processes = 3
	}
	if err := pour(ctx, rec, first); err != nil {
		return run, err
	}
	begin := time.Now()
	if err := rec.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return run, err
	}
	if _, err := waitForCommits(ctx, rec.tape, pid, begin); err != nil {
		return run, err
	}
	if !f.tcp {
		if err := pour(ctx, rec, f); err != nil {
			return run, err
		}
	}
	before, err := cpuTime(pid)
	if err != nil {
		return run, err
	}
	if profiled {
		rec.cmd.Process.Signal(syscall.SIGUSR1) // runRecord begins its profile, once it goes on
	}
	begin = time.Now()
	if f.tcp {
		err = f.run(ctx)
	} else {
		err = rec.cmd.Process.Signal(syscall.SIGCONT)
	}
	if err != nil {
		return run, err
	}
	committed, err := waitForCommits(ctx, rec.tape, pid, begin)
	if err != nil {
		return run, err
	}
	after, err := cpuTime(pid)
	if err != nil {
		return run, err
	}
	if profiled {
		rec.cmd.Process.Signal(syscall.SIGUSR1)
	}
	stopped = true
	run = pipelineRun{Events: f.total(), CPU: after.user + after.system - before.user - before.system, User: after.user - before.user, Wall: committed.Sub(begin)}
	run.Words, err = rec.stop()
	return run, err
}

// pour makes a flood; over UDP with the recorder stopped.
func pour(ctx context.Context, rec *recording, f flood) error {
	if !f.tcp {
		if err := rec.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
	}
	return f.run(ctx)
}

// After quiet without a commit, everything is committed. It is longer than a batch may wait, and shorter than an idle
// recorder's heartbeat. During it an idle recorder uses less than idleCPU.
const (
	quiet   = 2 * time.Second
	idleCPU = 50 * time.Millisecond
)

// waitForCommits waits until neither the tape nor the recorder's CPU time changes any more. It returns the time of the
// last write.
func waitForCommits(ctx context.Context, tape string, pid int, begin time.Time) (time.Time, error) {
	var usedBefore time.Duration
	since := begin // the recorder has been idle since then
	for {
		last, err := lastWritten(tape)
		if err != nil {
			return last, err
		}
		t, err := cpuTime(pid)
		if err != nil {
			return last, err
		}
		if used := t.user + t.system; used > usedBefore+idleCPU {
			usedBefore, since = used, time.Now()
		}
		if last.After(begin) && time.Since(last) > quiet && time.Since(since) > quiet {
			return last, nil
		}
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func lastWritten(tape string) (last time.Time, err error) {
	files, err := filepath.Glob(filepath.Join(tape, "*.db*"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last, err
}

type times struct{ user, system time.Duration }

// cpuTime returns the CPU time of a process.
func cpuTime(pid int) (times, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return times{}, err
	}
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // after the name
	fields := bytes.Fields(rest)
	if len(fields) < 13 {
		return times{}, fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	user, err := strconv.Atoi(string(fields[11]))
	system, err2 := strconv.Atoi(string(fields[12]))
	const tick = time.Second / ticksPerSecond
	return times{time.Duration(user) * tick, time.Duration(system) * tick}, errors.Join(err, err2)
}
