package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// A recorder that is told to end while it copies a segment to seal it ends at once, with and without endings to fold.
func TestSealingEndsInACopy(t *testing.T) {
	for _, endings := range []bool{false, true} {
		dir := t.TempDir()
		w := mustOpenWriter(t, dir, options(999*second))
		l := newLoad(20, 100)
		l.shapes = l.shapes[1:2]
		conns := make([]Connection, 20_000)
		l.fill(conns)
		b := l.batch(conns)
		if endings {
			b.Endings = refusals(conns)
		}
		mustAppend(t, w, b)
		if err := w.seg.close(); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "copy")
		build := func(after time.Duration) (time.Duration, error) {
			if err := os.WriteFile(to, sealedDatabase(), 0o600); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			defer time.AfterFunc(after, func() { close(stop) }).Stop()
			start := time.Now()
			err := segment.BuildSealed(to, w.seg.path, t.TempDir(), func(int) any { return nil }, stop)
			return time.Since(start), err
		}
		whole, err := build(time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		const tries = 20
		ended := 0
		for n := range tries {
			if _, err := build(whole * time.Duration(n) / tries / 2); sqlite.ErrCode(err) == sqlite.ResultInterrupt {
				ended++
			} else if err != nil {
				t.Errorf("endings %t: %v", endings, err)
			}
		}
		if ended < tries/2 {
			t.Errorf("endings %t: it ended %d times of %d", endings, ended, tries)
		}
	}
}

// A recorder that is told to end while it copies a segment into a hold, where there are no links, ends at once. The next one
// takes the segment into the hold.
func TestHoldingEndsInACopy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	s := recordTape(t, dir, 3)
	held := filepath.Join(dir, tapedir.HeldDir)
	if err := os.Mkdir(held, tapedir.DirMode); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", held, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("needs a file system of its own: %v", err)
	}
	defer unix.Unmount(held, unix.MNT_DETACH)
	o, k := loggedOptions(dir, 9000*second)
	w := mustOpenWriter(t, dir, o)
	waitSealed(t, w)
	w.patience = newCountdown(t, 3) // in the copy: one is for each read
	h, err := w.hold(Request{Do: DoHold, Reason: "case 7"})
	if !errors.Is(err, errEnded) {
		t.Fatalf("%+v, %v", h, err)
	}
	if left, _ := filepath.Glob(filepath.Join(held, h.ID, "*.db")); len(left) != len(h.Segments) {
		t.Errorf("%q are left of %d", left, len(h.Segments))
	}
	mustClose(t, w, 9001*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	o, k = loggedOptions(dir, 9100*second)
	w = mustOpenWriter(t, dir, o)
	var holds []tapedir.Hold
	for start := time.Now(); time.Since(start) < 10*time.Second && (len(holds) != 1 || len(holds[0].Segments) < 3); time.Sleep(5 * time.Millisecond) {
		if holds, err = tapedir.Holds(dir); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, w, 9101*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil || len(holds) != 1 || len(holds[0].Segments) < 3 || len(holds[0].Missing) > 0 {
		t.Fatalf("%+v, %v", holds, err)
	}
	if text := problems(s.verify(t, proof.Options{Key: s.key})); text != "" {
		t.Error(text)
	}
}

// Wherever a recorder is stopped while it opens a tape on which one was killed, it says so, and the next one finds all of
// it.
func TestOpeningEnds(t *testing.T) {
	db, wal := recorded(t)
	want := rows(t, mustOpenTape(t, filepath.Dir(put(t, db, wal))).Conn(), "SELECT count(*), min(time_ns), max(time_ns) FROM connections")
	for n := 0; ; n += 1 + n/2 {
		dir := filepath.Dir(put(t, db, wal))
		w, err := newWriter(dir, options(9000*second))
		if err != nil {
			t.Fatal(err)
		}
		w.patience = newCountdown(t, n)
		if err = w.open(); err == nil {
			mustClose(t, w, 9001*second)
			if n < 3 {
				t.Errorf("it asked %d times", n)
			}
			break
		}
		if !errors.Is(err, errEnded) {
			t.Fatalf("after %d: %v", n, err)
		}
		tape := mustOpenTape(t, dir)
		if got := rows(t, tape.Conn(), "SELECT count(*), min(time_ns), max(time_ns) FROM connections"); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("after %d: %s of %s", n, got, want)
		}
		if gaps := rows(t, tape.Conn(), "SELECT * FROM gaps"); n > 0 && len(gaps) > 2 {
			t.Fatalf("after %d: %q", n, gaps)
		}
	}
}
