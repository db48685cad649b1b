package bpf

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestExecTellsFile: an exec has the file of its program as stat(2) has it, and a file that was written again in place is another one.
func TestExecTellsFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	c, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	program := filepath.Join(t.TempDir(), "program")
	body, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	var want []syscall.Stat_t
	for _, more := range []string{"", "x"} {
		if err := os.WriteFile(program, append(body, more...), 0o755); err != nil {
			t.Fatal(err)
		}
		var stat syscall.Stat_t
		if err := syscall.Stat(program, &stat); err != nil {
			t.Fatal(err)
		}
		want = append(want, stat)
		if err := exec.Command(program).Run(); err != nil {
			t.Fatal(err)
		}
	}
	_, last, _ := execsOf(t, c, program)
	if len(last) != len(want) {
		t.Fatalf("%d execs of %d", len(last), len(want))
	}
	for _, p := range last {
		found := false
		for _, stat := range want {
			found = found || p.ExeIno == stat.Ino && p.ExeSize == uint64(stat.Size) && p.ExeCtime == uint64(stat.Ctim.Nano())
		}
		if !found {
			t.Errorf("inode %d, ctime %d, size %d of %+v", p.ExeIno, p.ExeCtime, p.ExeSize, want)
		}
		var fs syscall.Statfs_t
		if err := syscall.Statfs(program, &fs); err != nil || p.ExeFS != uint32(fs.Type) {
			t.Errorf("file system %x, not %x: %v", p.ExeFS, fs.Type, err)
		}
	}
}
