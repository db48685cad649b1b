package capture

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// makeCgroup makes a cgroup v2 of the given path and opens it. It is removed when the test ends.
func makeCgroup(t *testing.T, path ...string) *os.File {
	t.Helper()
	at := cgroupRoot(t)
	for _, name := range path {
		at = filepath.Join(at, name)
		made := at
		if err := os.Mkdir(made, 0o755); err != nil && !os.IsExist(err) {
			t.Skipf("make a cgroup: %v", err)
		}
		t.Cleanup(func() { unix.Rmdir(made) })
	}
	f, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	mounts, err := os.Open("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	defer mounts.Close()
	for in := bufio.NewScanner(mounts); in.Scan(); {
		if f := strings.Fields(in.Text()); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	t.Skip("cgroup v2 is not mounted")
	return ""
}
