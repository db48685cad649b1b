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

// missed sums the times that the kernel did not run one of the programs: a program met itself on a CPU (from 5.12, read
// from each program), or a kprobe was hit inside another's handler or a kretprobe had no instance left (read from
// kprobe_profile; another tool's probe on the same function counts in).
func (c *Capture) missed() (uint64, error) {
	var sum uint64
	for name, p := range c.collection.Programs {
		stats, err := p.Stats()
		if err != nil {
			return 0, fmt.Errorf("read statistics of %s: %w", name, err)
		}
		sum += stats.RecursionMisses
	}
	if c.backend != Kprobe {
		return sum, nil
	}
	at, err := findMount("tracefs")
	if err != nil || at == "" {
		return sum, err
	}
	f, err := os.Open(filepath.Join(at, "kprobe_profile"))
	if errors.Is(err, fs.ErrNotExist) {
		return sum, nil
	}
	if err != nil {
		return sum, fmt.Errorf("read probe misses: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() { // name hits misses (kernel/trace/trace_kprobe.c, probes_profile_seq_show)
		fields := strings.Fields(lines.Text())
		// A blocked connect holds an instance of the one on __sys_connect_file, and exit_connect makes up for a miss.
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
