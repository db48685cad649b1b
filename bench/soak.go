package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A soakRun is a recorder among processes and cgroups that come and go, with queries and a rotation every few seconds beside it.
// Its caches are filled first, and its tape up to the budget, so that segments have been removed and each one that comes takes the place of another.
// From then on, what it holds must not grow. Its caches have two generations of which the older is thrown away when the younger is full, so what lives
// goes up for some minutes and falls at once: the most of the first half and of the second are compared, and not what there is at some time.
type soakRun struct {
	Fill, For                    time.Duration
	Quarters                     [4]held // medians
	Halves                       [2]held // the most
	Processes, Cgroups           int
	Rotations, Queries, Segments int
	Partial                      int    // queries that said that they miss a segment, which was removed while it was read
	Words                        string // the recorder's own account
	Lost                         string // by cause
	Problems                     []string
}

// held is what a recorder holds at one time. Memory is in KiB: Live is what the last garbage collection left in the heap, Go what Go's runtime has
// of the system, garbage and stacks included, Own is that of no file, with what SQLite has beside it, RSS has pages of mapped files and rings, too.
type held struct{ Live, Go, Own, RSS, Descriptors, Goroutines int }

// Growth that is none: the garbage collector's, a file that is open at the moment, a sealing that runs.
const (
	rssSlack        = 8 << 10 // KiB
	descriptorSlack = 10
	goroutineSlack  = 5
)

// partialAnswer is conntape's exit status for an answer that says what it misses.
const partialAnswer = 5

const (
	soakSample = 2 * time.Second
	soakRotate = 5 * time.Second
	soakPause  = 50 * time.Millisecond // between two processes
	soakBudget = 16 << 20              // of the tape, bytes: the least; a rotation every five seconds fills it in a few minutes
	soakFill   = 20_000                // processes that fill the caches, which are bounded: two generations of 8,192 sockets, and of some 6,000 tasks
)

// soak lets a recorder live for a time, and fails if something grew or an account does not balance.
func (b *bench) soak(length time.Duration) (run soakRun, err error) {
	self, err := os.Executable()
	if err != nil {
		return run, err
	}
	watched := b.rig
	watched.conntape = self
	counts := filepath.Join(b.profiles, "goroutines") // and a heap profile beside it
	rec, err := watched.record(b.ctx, "--goroutines", counts, "--max-size", strconv.Itoa(soakBudget))
	if err != nil {
		return run, err
	}
	ctx, stop := context.WithCancel(b.ctx)
	defer stop()
	var beside sync.WaitGroup
	beside.Go(func() {
		run.Rotations = churn(ctx, soakRotate, func() error { return b.ask(ctx, "rotate", "--dir", rec.tape) })
	})
	begin := time.Now()
	fill(ctx, soakFill, func() error { return burstIn(ctx, self, "") })
	run.Fill = time.Since(begin)
	if _, err := os.Stat(filepath.Join(rec.tape, "00000001.db")); err == nil {
		run.Problems = append(run.Problems, "no segment was removed while the caches were filled")
	}
	begin = time.Now()
	end := time.AfterFunc(length, stop)
	defer end.Stop()
	beside.Go(func() { run.Processes = churn(ctx, soakPause, func() error { return burstIn(ctx, self, "") }) })
	beside.Go(func() { run.Cgroups = churn(ctx, soakPause, func() error { return inNewCgroup(ctx, self) }) })
	beside.Go(func() {
		run.Queries = churn(ctx, soakSample, func() (err error) {
			for _, question := range [][]string{{"query", "top"}, {"query", "gaps"}, {"status"}} {
				asked := b.ask(ctx, append(question, "--dir", rec.tape)...)
				if exit := (*exec.ExitError)(nil); errors.As(asked, &exit) && exit.ExitCode() == partialAnswer {
					run.Partial++
				} else {
					err = errors.Join(err, asked)
				}
			}
			return err
		})
	})
	var samples []held
	churn(ctx, soakSample, func() error {
		if h, err := readHeld(rec.cmd.Process.Pid, counts); err == nil {
			samples = append(samples, h)
		}
		return nil
	})
	beside.Wait()
	run.For = time.Since(begin)
	if run.Words, err = rec.stop(); err != nil {
		return run, err
	}
	run.compare(samples)
	if run.Lost, err = b.lostByCause(rec.tape); err != nil {
		return run, err
	}
	segments, err := filepath.Glob(filepath.Join(rec.tape, "*.db"))
	run.Segments = len(segments)
	if out, verr := exec.CommandContext(b.ctx, b.rig.conntape, "verify", "--dir", rec.tape).CombinedOutput(); verr != nil {
		run.Problems = append(run.Problems, fmt.Sprintf("verify: %v: %s", verr, out))
	}
	if len(run.Problems) > 0 {
		err = errors.Join(err, errors.New(strings.Join(run.Problems, "; ")))
	}
	return run, errors.Join(err, os.RemoveAll(rec.tape))
}

// lostByCause says of a tape how many connections were lost, and why. All processes of a soak belong to one: once the tape is full, and half of it is theirs,
// those that the tape does not tell of have no rows of their own any more.
func (b *bench) lostByCause(tape string) (string, error) {
	const sql = "SELECT group_concat(sum || ' ' || cause, ', ') FROM (SELECT cause, sum(lost) AS sum FROM gaps GROUP BY cause HAVING sum(lost) > 0)"
	out, err := exec.CommandContext(b.ctx, b.rig.conntape, "query", "sql", sql, "--dir", tape, "--quiet", "--format", "csv").Output()
	_, rows, _ := strings.Cut(string(out), "\n")
	return cmp.Or(strings.Trim(rows, "\r\n\""), "none"), err
}

// churn does something again and again, with a pause between, until ctx ends, and returns how often it worked.
func churn(ctx context.Context, pause time.Duration, do func() error) (n int) {
	for {
		if err := do(); err == nil {
			n++
		} else if ctx.Err() == nil {
			progress("soak: %v", err)
		}
		select {
		case <-ctx.Done():
			return n
		case <-time.After(pause):
		}
	}
}

// fill does something n times, as fast as the processors allow.
func fill(ctx context.Context, n int64, do func() error) {
	var left atomic.Int64
	left.Store(n)
	var all sync.WaitGroup
	for range cpus() {
		all.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				if err := do(); err != nil && ctx.Err() == nil {
					progress("soak: %v", err)
				}
			}
		})
	}
	all.Wait()
}

// ask runs conntape and throws the answer away.
func (b *bench) ask(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, b.rig.conntape, args...)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	return cmd.Run()
}

// burstIn runs a process that connects, in a cgroup; "" in that of this process.
func burstIn(ctx context.Context, self, cgroup string) error {
	cmd := exec.CommandContext(ctx, self, "burst", "-cpu", strconv.Itoa(workerCPU()), "-connects", "20", "-endpoints", "1000", "-seed", strconv.FormatInt(time.Now().UnixNano(), 10))
	if cgroup != "" {
		dir, err := os.Open(cgroup)
		if err != nil {
			return err
		}
		defer dir.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	return cmd.Run()
}

// inNewCgroup runs such a process in a cgroup that is made for it, as a container is.
func inNewCgroup(ctx context.Context, self string) error {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); len(words) > 2 && words[2] == "cgroup2" {
			dir, err := os.MkdirTemp(words[1], "conntape-soak-")
			if err != nil {
				return err
			}
			return errors.Join(burstIn(ctx, self, dir), unix.Rmdir(dir))
		}
	}
	return errors.New("cgroup v2 is not mounted")
}

// readHeld reads what a process holds; it writes the number of its goroutines, and the live heap and all of Go's memory in bytes, to a file.
func readHeld(pid int, counts string) (h held, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return h, err
	}
	if h.RSS, err = field(string(status), "VmRSS:"); err != nil {
		return h, err
	}
	if h.Own, err = field(string(status), "RssAnon:"); err != nil {
		return h, err
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return h, err
	}
	h.Descriptors = len(open)
	text, err := os.ReadFile(counts)
	if err != nil {
		return h, err
	}
	var live, all int
	_, err = fmt.Sscan(string(text), &h.Goroutines, &live, &all)
	h.Live, h.Go = live>>10, all>>10
	return h, err
}

// compare holds the second half of the samples against the first.
func (run *soakRun) compare(samples []held) {
	quarter := len(samples) / len(run.Quarters)
	if quarter == 0 {
		run.Problems = append(run.Problems, fmt.Sprintf("%d samples are too few", len(samples)))
		return
	}
	for i := range run.Quarters {
		run.Quarters[i] = each(samples[i*quarter:][:quarter], func(sorted []int) int { return sorted[len(sorted)/2] })
	}
	for i := range run.Halves {
		run.Halves[i] = each(samples[i*2*quarter:][:2*quarter], func(sorted []int) int { return sorted[len(sorted)-1] })
	}
	before, last := run.Halves[0], run.Halves[1]
	for _, grown := range []struct {
		what                string
		before, last, slack int
	}{
		{"KiB of live heap", before.Live, last.Live, rssSlack},
		{"KiB of Go's memory", before.Go, last.Go, rssSlack},
		{"KiB of memory of its own", before.Own, last.Own, rssSlack},
		{"KiB of memory", before.RSS, last.RSS, rssSlack},
		{"descriptors", before.Descriptors, last.Descriptors, descriptorSlack},
		{"goroutines", before.Goroutines, last.Goroutines, goroutineSlack},
	} {
		if grown.last > grown.before+grown.slack {
			run.Problems = append(run.Problems, fmt.Sprintf("%s grew from %d to %d", grown.what, grown.before, grown.last))
		}
	}
}

// each chooses one of the sorted values of each field.
func each(of []held, choose func(sorted []int) int) held {
	one := func(field func(held) int) int {
		var values []int
		for _, h := range of {
			values = append(values, field(h))
		}
		slices.Sort(values)
		return choose(values)
	}
	return held{
		Live: one(func(h held) int { return h.Live }), Go: one(func(h held) int { return h.Go }), Own: one(func(h held) int { return h.Own }), RSS: one(func(h held) int { return h.RSS }),
		Descriptors: one(func(h held) int { return h.Descriptors }), Goroutines: one(func(h held) int { return h.Goroutines }),
	}
}

// soak reports it.
func (r *report) soak(p *printer) {
	s := r.Soak
	if s.For == 0 {
		return
	}
	p.line("## Soak")
	p.line("")
	p.line("%s, after %s in which %d processes filled the caches, beside %d processes, %d cgroups with one each, %d rotations and %d rounds of three queries, %d of which said that they miss a segment: it was removed while it was read; %d segments at the end. The recorder: %s; lost by cause: %s.",
		s.For.Round(time.Second), s.Fill.Round(time.Second), soakFill, s.Processes, s.Cgroups, s.Rotations, s.Queries, s.Partial, s.Segments, s.Words, s.Lost)
	p.line("")
	p.head("", "median of the first quarter", "second", "third", "last", "most in the first half", "second")
	row := func(what string, cell func(held) string) {
		p.row(what, cell(s.Quarters[0]), cell(s.Quarters[1]), cell(s.Quarters[2]), cell(s.Quarters[3]), cell(s.Halves[0]), cell(s.Halves[1]))
	}
	mib := func(kib int) string { return fmt.Sprintf("%.1f", float64(kib)/1024) }
	row("live heap, MiB", func(h held) string { return mib(h.Live) })
	row("Go's memory, MiB", func(h held) string { return mib(h.Go) })
	row("memory of its own, MiB", func(h held) string { return mib(h.Own) })
	row("RSS, MiB", func(h held) string { return mib(h.RSS) })
	row("descriptors", func(h held) string { return strconv.Itoa(h.Descriptors) })
	row("goroutines", func(h held) string { return strconv.Itoa(h.Goroutines) })
	p.line("")
}
