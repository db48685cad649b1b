package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
	"github.com/conntape/conntape/store/trusted"
)

// A tape is not recorded where somebody else could put another in its place.
func TestDirectoryOfSomebodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a directory of somebody else")
	}
	his := filepath.Join(t.TempDir(), "his")
	if err := os.Mkdir(his, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(his, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	w, err := OpenWriter(filepath.Join(his, "below", "tape"), options(100*second))
	var why *trusted.Error
	if !errors.As(err, &why) || why.Path != his || failure.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if err == nil {
		mustClose(t, w, 200*second)
	}
}

// The directory is moved away while it is recorded, and another put in its place:
// nothing is written there, nothing removed, and what is open goes on.
func TestDirectoryReplaced(t *testing.T) {
	base := t.TempDir()
	dir, moved := filepath.Join(base, "tape"), filepath.Join(base, "moved")
	o, k := loggedOptions(dir, 100*second)
	w := mustOpenWriter(t, dir, o)
	l := newLoad(5, 5)
	l.boot = 100 * second
	conns := make([]Connection, 10)
	add := func() {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
		k.checkpoint()
	}
	add()
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	add()
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, tapedir.LogDir)} {
		if err := os.Mkdir(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	his := filepath.Join(dir, tapedir.SegmentName(1))
	if err := os.WriteFile(his, []byte("his"), 0o440); err != nil {
		t.Fatal(err)
	}
	if err := w.Rotate(); !errors.Is(err, tapedir.ErrDirMoved) {
		t.Errorf("rotated: %v", err)
	}
	if w.expireOldest(tapelog.ExpiredSize) {
		t.Error("a segment of somebody else was removed")
	}
	add()
	if text := strings.Join(files(t, dir), " "); strings.Contains(text, tapedir.SegmentName(2)) || strings.Contains(text, ".log") || strings.Contains(text, tapedir.SegmentName(3)) {
		t.Errorf("in the other directory: %s", text)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	mustClose(t, w, l.boot+second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if text := problems((&sealedTape{dir: dir}).verify(t, proof.Options{})); text != "" {
		t.Errorf("problems: %s", text)
	}
	if n := one(t, mustOpenTape(t, dir).Conn(), "SELECT count(*) FROM connections"); n != "30" {
		t.Errorf("%s connections", n)
	}
}
