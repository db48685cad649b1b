package main

import (
	"os"
	"regexp"

	"golang.org/x/sys/unix"
)

// keepOutOfCores keeps the memory of this process out of core dumps, and other
// processes of the same user out of it: the keys of the log are in there. Both are
// needed, since a core that goes to a program disregards the limit. Root gets at
// the memory all the same; docs/integrity.md says what he finds.
func keepOutOfCores() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil && !coresForbidden() {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

var noCores = regexp.MustCompile(`(?m)^Max core file size +0 +0 `)

// coresForbidden tells whether the limit of core dumps is 0 already: the filter of the unit
// lets nobody set or read limits by their system call.
func coresForbidden() bool {
	limits, err := os.ReadFile("/proc/self/limits")
	return err == nil && noCores.Match(limits)
}
