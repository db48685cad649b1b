package recorder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxArgv bounds what is kept of an argv, in bytes.
const maxArgv = 4096

// tickNS is the length of a clock tick as /proc counts (USER_HZ is 100 on every architecture that we run on).
const tickNS = 10_000_000

// errOther is returned when a pid is another process's by now.
var errOther = errors.New("another process has this pid")

// errNoArgv is returned where /proc shows no arguments, which says nothing of those that the process was given: it is
// ending and has no memory left, or in the middle of an exec and has none yet, or has wiped them.
var errNoArgv = errors.New("it shows no arguments")

// procfs reads what only /proc can tell of a process that was there before us: its argv. That is what the process
// shows at the time of reading; it may have rewritten it.
type procfs struct {
	root string
}

// argv reads /proc/PID/cmdline of the process that started at start (ns CLOCK_BOOTTIME), and of no other: the start
// time is compared before and after. It cannot tell whether the process has executed another program meanwhile; the
// caller can.
func (p procfs) argv(pid uint32, start uint64) (argv []string, truncated bool, err error) {
	dir := filepath.Join(p.root, strconv.FormatUint(uint64(pid), 10))
	if err := checkStart(dir, start); err != nil {
		return nil, false, err
	}
	f, err := os.Open(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil, false, fmt.Errorf("read argv: %w", err)
	}
	defer f.Close()
	// In one read, for which the kernel holds on to the memory: of a process that ends between two, the second finds nothing.
	raw := make([]byte, maxArgv+1)
	n, err := f.Read(raw)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("read argv: %w", err)
	}
	raw = raw[:n]
	if err := checkStart(dir, start); err != nil {
		return nil, false, err
	}
	if len(raw) > maxArgv {
		return splitArgv(raw[:maxArgv]), true, nil
	}
	// Whoever sets a title (setproctitle(3)) leaves the rest of the area as NULs.
	if raw = bytes.TrimRight(raw, "\x00"); len(raw) == 0 {
		return nil, false, fmt.Errorf("read argv: %w", errNoArgv)
	}
	return splitArgv(raw), false, nil
}

// checkStart compares field 22 of /proc/PID/stat, in ticks rounded down, with a start time.
func checkStart(dir string, start uint64) error {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return fmt.Errorf("read start time: %w", err)
	}
	ticks, err := startTicks(string(stat))
	if err != nil {
		return err
	}
	if ticks != start/tickNS {
		return fmt.Errorf("read %s: %w", dir, errOther)
	}
	return nil
}

// startTicks finds field 22 (proc_pid_stat(5)). Field 2 is a name in parentheses that may hold any of those and spaces.
func startTicks(stat string) (uint64, error) {
	cut := strings.LastIndexByte(stat, ')')
	if cut < 0 {
		return 0, fmt.Errorf("parse stat %.40q: no name", stat)
	}
	f := strings.Fields(stat[cut+1:]) // from field 3 on
	if len(f) < 20 {
		return 0, fmt.Errorf("parse stat %.40q: %d fields", stat, len(f)+2)
	}
	ticks, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse start time: %w", err)
	}
	return ticks, nil
}

// splitArgv cuts an argument area at its NULs: one ends each argument, and the last one's may be missing.
func splitArgv(raw []byte) []string {
	if len(raw) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}
