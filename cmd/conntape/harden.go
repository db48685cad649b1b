package main

import "golang.org/x/sys/unix"

// keepOutOfCores keeps the memory of this process out of core dumps, and other
// processes of the same user out of it: the keys of the log are in there. Both are
// needed, since a core that goes to a program disregards the limit. Root gets at
// the memory all the same; docs/integrity.md says what he finds.
func keepOutOfCores() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
