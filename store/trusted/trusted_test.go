package trusted

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const stranger = 4711

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of somebody else")
	}
	base := t.TempDir()
	make := func(name string, mode os.FileMode, uid, gid int) {
		path := filepath.Join(base, name)
		must(t, os.Mkdir(path, 0o755))
		must(t, os.Chmod(path, mode))
		must(t, os.Chown(path, uid, gid))
	}
	make("ours", 0o755, 0, 0)
	make("ours/tape", 0o750, 0, 0)
	make("his", 0o755, stranger, 0)
	make("his/ours", 0o755, 0, 0)
	make("his/ours/tape", 0o755, 0, 0)
	make("all", 0o777, 0, 0)
	make("all/tape", 0o755, 0, 0)
	make("group", 0o775, 0, stranger)
	make("group/tape", 0o755, 0, 0)
	make("sticky", 0o777|os.ModeSticky, 0, 0)
	make("sticky/tape", 0o755, 0, 0)
	link := func(to, name string, uid int) {
		must(t, os.Symlink(to, filepath.Join(base, name)))
		must(t, os.Lchown(filepath.Join(base, name), uid, 0))
	}
	link("ours", "link", 0)
	link(filepath.Join(base, "ours"), "sticky/absolute", 0)
	link("../ours", "sticky/planted", stranger)
	link("../his", "sticky/astray", 0)
	link("loop", "loop", 0)
	for path, want := range map[string]struct{ check, open bool }{
		"ours/tape":            {true, true},
		"ours/../ours/./tape":  {true, true},
		"his/ours/tape":        {false, true},
		"his":                  {false, true},
		"all/tape":             {false, true},
		"group/tape":           {false, true},
		"sticky/tape":          {true, true},
		"link/tape":            {true, true},
		"sticky/absolute/tape": {true, true},
		"sticky/planted/tape":  {false, false},
		"sticky/astray/ours":   {false, true},
		"loop":                 {false, false},
		"nothing":              {false, false},
	} {
		full := base + "/" + path
		if err := Check(full); (err == nil) != want.check {
			t.Errorf("check %s: %v", path, err)
		}
		dir, err := Open(full)
		if (err == nil) != want.open {
			t.Errorf("open %s: %v", path, err)
		}
		if err != nil {
			continue
		}
		is, err := dir.Stat()
		must(t, err)
		was, err := os.Stat(full)
		must(t, err)
		if !os.SameFile(is, was) {
			t.Errorf("%s: another directory was opened", path)
		}
		must(t, dir.Close())
	}
	var e *Error
	if err := Check(base + "/sticky/planted/tape"); !errors.As(err, &e) || e.Path != base+"/sticky/planted" {
		t.Errorf("%v", err)
	}
	if _, err := Open(base + "/loop"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("loop: %v", err)
	}
}
