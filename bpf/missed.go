package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// misses are the times that the kernel left a program out, as it tells them.
type misses struct {
	hook      uint64 // a program that sees attempts begin; in a row of several at the return, the row's first program
	process   uint64 // a program of a process's life
	outcome   uint64 // all programs of a connection's outcome, at most
	event     uint64 // a program of accept, or of opened.h
	raw       uint64 // a program of sends through raw and ping sockets
	kretprobe uint64 // no instance was left
}

// readMisses sums them up. A program is left out when it meets itself on a CPU, which happens where programs can be
// preempted (trampolines from 5.12, tracepoints from 7.0; told by each program); one of a kprobe or classic tracepoint while
// a bpf(2) call on that CPU is in the middle of a map (likewise; not told before 6.7); a kprobe when it is hit inside
// another's handler (from 6.7, told by its link; a kprobe in process context on a function that no handler calls does not
// meet that); a kretprobe when it has no instance left (told by kprobe_profile, where another tool's probe of that function
// counts in).
func (c *Capture) readMisses() (misses, error) {
	left := map[string]uint64{}
	for name, p := range c.collection.Programs {
		stats, err := p.Stats()
		if err != nil {
			return misses{}, fmt.Errorf("read statistics of %s: %w", name, err)
		}
		left[name] = stats.RecursionMisses
	}
	m := sumMisses(left, c.first)
	if c.backend != Kprobe {
		return m, nil
	}
	for _, a := range c.attached {
		if a.hook.how != kprobe {
			continue
		}
		info, err := a.link.Info()
		if err != nil { // before 5.15 there is no link to ask
			continue
		}
		if perf := info.PerfEvent(); perf != nil && perf.Kprobe() != nil {
			m.hook += perf.Kprobe().Missed
		}
	}
	var err error
	m.kretprobe, err = kretprobeMisses()
	return m, err
}

// sumMisses adds up how often each program was left out. Where another makes up for it, nothing is missed before both were:
// that is at most as often as the one that was left out less.
func sumMisses(left map[string]uint64, first string) misses {
	m := misses{hook: left[first], outcome: left["state_changed"], event: left["fentry_accept"]}
	if again, ok := left["state_changed_again"]; ok {
		m.outcome = min(m.outcome, again)
	}
	classic := left["process_exec_classic"] + left["process_exec_prepare"] // without which it does not tell a script
	m.process = min(classic, left["process_exec_again"]) + min(left["process_fork_classic"], left["process_fork_again"])
	m.outcome += left["socket_error"]
	for _, raw := range rawSenders {
		m.raw += left[raw.program]
	}
	for _, name := range socketPrograms() {
		m.event += left[name]
	}
	for _, name := range []string{"process_fork", "process_exec", "process_exit", "process_exit_classic"} {
		m.process += left[name]
	}
	return m
}

// kretprobeMisses reads those of security_socket_connect. The one on __sys_connect_file misses when thousands are
// blocked, and exit_connect makes up for it.
func kretprobeMisses() (uint64, error) {
	at, err := findMount("tracefs")
	if err != nil || at == "" {
		return 0, err
	}
	f, err := os.Open(filepath.Join(at, "kprobe_profile"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read probe misses: %w", err)
	}
	defer f.Close()
	var sum uint64
	lines := bufio.NewScanner(f)
	for lines.Scan() { // name hits misses (kernel/trace/trace_kprobe.c, probes_profile_seq_show)
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || !strings.Contains(fields[0], "security_socket_connect") {
			continue
		}
		n, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil {
			return sum, fmt.Errorf("read probe misses: %w", err)
		}
		sum += n
	}
	return sum, lines.Err()
}
