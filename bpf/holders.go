package bpf

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// LeastRecord is how many bytes of the connect ring a record takes at least: struct connect_small, and what the kernel puts
// before it.
const LeastRecord = (connectSize + 2*sockaddrSmall + 8 + 7) &^ 7

// Unread returns the bytes that the connect ring holds, and those that replaced programs have left.
func (c *Capture) Unread() int { return c.connects.unread() + c.unreadLeft() }

// RingHolders returns the processes, other than this one, that have one of our rings open, as "pid 7 (NAME)". It looks through
// all descriptors of the host, which takes a while: it is for when somebody has read from a ring. A process that has mapped
// a ring and closed its descriptor cannot be told.
func (c *Capture) RingHolders() (holders []string) {
	ids := map[string]bool{}
	for _, name := range []string{"connects", "processes"} {
		if info, err := c.collection.Maps[name].Info(); err == nil {
			if id, ok := info.ID(); ok {
				ids[strconv.FormatUint(uint64(id), 10)] = true
			}
		}
	}
	all, err := filepath.Glob("/proc/[0-9]*/fd")
	if err != nil {
		return nil
	}
	for _, dir := range all {
		pid := filepath.Base(filepath.Dir(dir))
		if pid != strconv.Itoa(os.Getpid()) && holdsMap(dir, ids) {
			comm, _ := os.ReadFile(filepath.Join(filepath.Dir(dir), "comm"))
			holders = append(holders, fmt.Sprintf("pid %s (%s)", pid, strings.TrimSuffix(string(comm), "\n")))
		}
	}
	return holders
}

// holdsMap tells whether a directory of descriptors has one of a map with one of these ids. A process that has ended
// meanwhile has none.
func holdsMap(dir string, ids map[string]bool) bool {
	open, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range open {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err != nil || !strings.Contains(to, "bpf-map") {
			continue
		}
		about, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "fdinfo", fd.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(about)) { // "map_id:\t7"
			if id, ok := strings.CutPrefix(line, "map_id:"); ok && ids[strings.TrimSpace(id)] {
				return true
			}
		}
	}
	return false
}
