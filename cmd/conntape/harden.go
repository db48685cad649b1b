package main

import (
	"os"
	"regexp"

	"golang.org/x/sys/unix"
)

// keepOutOfCores keeps this process's memory, with the keys of the log, out of core dumps and away from other processes
// of the same user. It needs both measures because a core piped to a program ignores the limit. Root can read the memory
// anyway; docs/integrity.md says which part.
func keepOutOfCores() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil && !coresForbidden() {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

var noCores = regexp.MustCompile(`(?m)^Max core file size +0 +0 `)

// coresForbidden reports whether the limit of core dumps is 0 already: the unit's system call filter forbids setting and
// reading limits.
func coresForbidden() bool {
	limits, err := os.ReadFile("/proc/self/limits")
	return err == nil && noCores.Match(limits)
}
