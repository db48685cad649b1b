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

	"golang.org/x/sys/unix"
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
	run.Wakeups = float64(after.switchesSince(before)) / run.For.Seconds()
	run.RSS = after.rss
	now, err := forksSinceBoot()
	run.OtherExecs = now - forks
	return run, err
}

type threads struct {
	cpu      time.Duration  // of threads that have ended, too
	switches map[string]int // voluntary, by thread
	rss      int            // KiB
}

// readThreads reads what a process and its threads have used.
func readThreads(pid int) (sum threads, err error) {
	var t unix.Timespec
	if err := unix.ClockGettime(cpuClock(pid), &t); err != nil {
		return sum, fmt.Errorf("read the CPU time of %d: %w", pid, err)
	}
	sum.cpu, sum.switches = time.Duration(t.Nano()), map[string]int{}
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return sum, err
	}
	for _, dir := range dirs {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		} else if err != nil {
			return sum, err
		}
		if sum.switches[dir], err = field(string(status), "voluntary_ctxt_switches:"); err != nil {
			return sum, err
		}
		if sum.rss, err = field(string(status), "VmRSS:"); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// cpuClock is the clock of a process's CPU time, as clock_getcpuclockid makes it: MAKE_PROCESS_CPUCLOCK of the kernel's
// include/linux/posix-timers_types.h with CPUCLOCK_SCHED. /proc/PID/stat counts ticks, and a thread's schedstat goes with the thread.
func cpuClock(pid int) int32 { return int32(^pid)<<3 | 2 }

// switchesSince counts what threads did since an earlier look. Of one that has ended meanwhile nothing is known.
func (t threads) switchesSince(before threads) (n int) {
	for dir, now := range t.switches {
		n += now - before.switches[dir]
	}
	return n
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
