package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestKeepOutOfCores(t *testing.T) {
	var before, after unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	if err := keepOutOfCores(); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		t.Errorf("dumpable is %d, %v", dumpable, err)
	}
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &after); err != nil || after != (unix.Rlimit{}) {
		t.Errorf("a core may have %d bytes, %v", after.Cur, err)
	}
}
