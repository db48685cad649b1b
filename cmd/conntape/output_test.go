package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// An answer is written through no link: not through one of its own name, and not
// through one of somebody else on the way.
func TestOutputThroughALink(t *testing.T) {
	base := t.TempDir()
	secret := filepath.Join(base, "secret")
	shared, ours := filepath.Join(base, "shared"), filepath.Join(base, "ours")
	for _, dir := range []string{shared, ours} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(shared, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	planted, astray := filepath.Join(shared, "answer.csv"), filepath.Join(shared, "folder")
	for link, to := range map[string]string{planted: secret, astray: ours} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := os.Lchown(link, 4711, 4711); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := checkOutput(planted, filepath.Join(base, "tape")); err == nil {
		t.Error("a link is taken for --output")
	}
	write := func(w io.Writer) error { _, err := w.Write([]byte("answer")); return err }
	if err := writeWhole(planted, write); err != nil { // planted after it was checked
		t.Fatal(err)
	}
	for path, want := range map[string]string{secret: "secret", planted: "answer"} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: a link of somebody else")
	}
	if err := writeWhole(filepath.Join(astray, "answer.csv"), write); err == nil {
		t.Error("written through a link of somebody else")
	}
	if names, err := os.ReadDir(ours); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
	if err := os.Lchown(astray, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(filepath.Join(astray, "answer.csv"), write); err != nil {
		t.Errorf("a link of our own: %v", err)
	}
}
