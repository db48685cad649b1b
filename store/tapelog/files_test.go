package tapelog

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Readers can read the parts of a log but not its key, with any umask.
func TestModes(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "log")
	handed := map[string]fs.FileMode{}
	l, err := Open(dir, Options{Give: func(path string, mode fs.FileMode) error {
		handed[filepath.Base(path)] = mode
		return os.Chmod(path, mode)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o750, filepath.Join(dir, partName(1)): 0o640, filepath.Join(dir, keyName): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
	if len(handed) != 2 || handed[keyName] != 0 {
		t.Errorf("handed to readers: %v", handed)
	}
}

// The key file is excluded from dumps, if the file system has such a flag.
func TestKeyFileFlags(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	writeLog(t, dir, 1, 10)
	flagsOf := func(name string) int {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			t.Skipf("no flags here: %v", err)
		}
		return flags
	}
	part := flagsOf(partName(1))
	f, err := os.OpenFile(filepath.Join(dir, partName(1)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, part|fsNoDump); err != nil {
		t.Skipf("no such flag here: %v", err)
	}
	if flagsOf(keyName)&fsNoDump == 0 {
		t.Error("the key file is part of dumps")
	}
}

// The log follows no link in place of its files.
func TestLinksAreRefused(t *testing.T) {
	base := t.TempDir()
	victim := filepath.Join(base, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keyName, partName(1)} {
		dir := filepath.Join(base, "log-"+name)
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{}); err == nil {
			t.Errorf("a link in place of %s is followed", name)
		}
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(base, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link, Options{}); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a link in place of the directory: %v", err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
}
