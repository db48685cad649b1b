package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// nobody is a user without any privilege.
const nobody = 65534

// Somebody without privilege is told what is missing, in one line; and may read
// a tape that was made readable.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to stop being root")
	}
	dir, err := os.MkdirTemp("", "conntape-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "conntape")
	copyProgram(t, program)
	for _, name := range []string{"closed", "open"} {
		if err := writeFixture(filepath.Join(dir, name), "plain"); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, "open"): 0o755, filepath.Join(dir, "open/00000001.db"): 0o644, filepath.Join(dir, "closed"): 0o750} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"record", "--dir", filepath.Join(dir, "new")}, exitFailed, "recording needs root"},
		{[]string{"record", "--dir", filepath.Join(dir, "new"), "--backend", "none"}, exitUsage, "unknown backend"},
		{[]string{"query", "recent", "--dir", filepath.Join(dir, "closed")}, exitFailed, "permission denied"},
		{[]string{"status", "--dir", filepath.Join(dir, "closed")}, exitFailed, "permission denied"},
		{[]string{"query", "recent", "--dir", filepath.Join(dir, "open"), "-q"}, exitDone, ""},
		{[]string{"status", "--dir", filepath.Join(dir, "open")}, exitDone, ""},
		{[]string{"hold", "--dir", filepath.Join(dir, "open")}, exitDone, ""},
		{[]string{"hold", "--dir", filepath.Join(dir, "open"), "--reason", "case 7"}, exitFailed, "permission denied\nconntape: hint: .* put sudo in front of conntape hold"},
		{[]string{"release", "x", "--dir", filepath.Join(dir, "open")}, exitFailed, "permission denied\nconntape: hint: .* put sudo in front of conntape release"},
		{[]string{"rotate", "--dir", filepath.Join(dir, "open")}, exitFailed, "permission denied\nconntape: hint: .* put sudo in front of conntape rotate"},
	} {
		cmd := exec.Command(program, c.args...)
		cmd.Env = []string{"TMPDIR=/tmp"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%v: exit %d, want %d: %s", c.args, got, c.code, &stderr)
		}
		if c.want == "" {
			if stderr.Len() > 0 {
				t.Errorf("%v: %s", c.args, &stderr)
			}
			continue
		}
		checkErrorLines(t, c.args[0], stderr.String(), c.want)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a tape was made before it was known that none can be recorded")
	}
}

// copyProgram copies this test binary, which runs as the program when it is
// called by its name, to where everybody may run it.
func copyProgram(t *testing.T, to string) {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, from); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
