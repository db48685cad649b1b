package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// An idleRun is the cost of an idle recorder.
type idleRun struct {
	For        time.Duration
	CPU        float64 // percent of a core
	RSS        int     // KiB, at the end
	Wakeups    float64 // voluntary context switches of all threads, a second
	Host       string  // the recorder's own report of the load
	OtherExecs int     // processes started by other programs
}

// idleSettle lets the recorder finish starting, notice that the host is idle, and give back the memory that only the start needed.
const idleSettle = 30 * time.Second

func measureIdle(ctx context.Context, r *rig, length time.Duration) (run idleRun, err error) {
	rec, err := r.record(ctx)
	if err != nil {
		return run, err
	}
	defer func() {
		words, stopErr := rec.stop()
		run.Host = words
		err = errors.Join(err, stopErr, os.RemoveAll(rec.tape))
	}()
	time.Sleep(idleSettle)
	pid := rec.cmd.Process.Pid
	before, err := readThreads(pid)
	if err != nil {
		return run, err
	}
	forks, err := forksSinceBoot()
	if err != nil {
		return run, err
	}
	begin := time.Now()
	select {
	case <-ctx.Done():
		return run, ctx.Err()
	case <-time.After(length):
	}
	after, err := readThreads(pid)
	if err != nil {
		return run, err
	}
	run.For = time.Since(begin)
	run.CPU = 100 * float64(after.cpu-before.cpu) / float64(run.For)
	run.Wakeups = float64(after.switches-before.switches) / run.For.Seconds()
	run.RSS = after.rss
	now, err := forksSinceBoot()
	run.OtherExecs = now - forks
	return run, err
}

type threads struct {
	cpu      time.Duration
	switches int // voluntary
	rss      int // KiB
}

// readThreads sums over the threads of a process. It reads schedstat because stat only counts ticks.
func readThreads(pid int) (threads, error) {
	var sum threads
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return sum, err
	}
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "schedstat"))
		if err != nil {
			return sum, err
		}
		ns, err := strconv.ParseInt(strings.Fields(string(stat))[0], 10, 64)
		if err != nil {
			return sum, err
		}
		sum.cpu += time.Duration(ns)
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			return sum, err
		}
		n, err := field(string(status), "voluntary_ctxt_switches:")
		if err != nil {
			return sum, err
		}
		sum.switches += n
		if sum.rss, err = field(string(status), "VmRSS:"); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// field returns the number after a name at the begin of a line.
func field(text, name string) (int, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("no %s", name)
}

// forksSinceBoot returns the number of processes and threads made since boot.
func forksSinceBoot() (int, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return field(string(stat), "processes ")
}
