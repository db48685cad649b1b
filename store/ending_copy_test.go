package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// A recorder that is told to end while it copies what sealing makes ends at once, and the next one makes the same file.
func TestSealingEndsInACopy(t *testing.T) {
	w := mustOpenWriter(t, filepath.Join(t.TempDir(), "tape"), options(100*second))
	defer w.Close(Gap{}, nil)
	path := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(path, make([]byte, 64*pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	given := func() *stored {
		s := &stored{path: path, closed: 64 * pageSize, stop: make(chan struct{})}
		s.giveUp()
		ctx, end := s.context()
		defer end()
		<-ctx.Done() // it takes a moment
		return s
	}
	for name, do := range map[string]func(s *stored) error{
		"a copy": func(s *stored) error { return w.copyToSeal(s, path+".new") },
		"a copy to a slot": func(s *stored) error {
			s.target = 64 * pageSize
			return w.copyToSeal(s, path)
		},
	} {
		tries := 0
		for err := error(nil); !errors.Is(err, segment.ErrGivenUp); tries++ { // the copy may be faster than the signal
			if err = do(given()); tries > 1000 {
				t.Fatalf("%s: %v", name, err)
			}
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
