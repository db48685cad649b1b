package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/conntape/conntape/store/segment"
)

// countdown is a context that ends when it is asked for the nth time whether it did.
type countdown struct {
	context.Context
	end  context.CancelCauseFunc
	left int
}

var errEnded = errors.New("ended by the test")

func newCountdown(t *testing.T, n int) *countdown {
	ctx, end := context.WithCancelCause(t.Context())
	t.Cleanup(func() { end(nil) })
	return &countdown{ctx, end, n}
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		c.end(errEnded)
	}
	return c.Context.Err()
}

// The copy of a large file ends when whoever asked for it does not wait any more.
func TestCopyEnds(t *testing.T) {
	path, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if err := segment.CopyFile(newCountdown(t, 2), from, to, 4<<20); !errors.Is(err, errEnded) {
		t.Errorf("the copy ended with %v", err)
	}
	if info, err := os.Stat(to); err != nil || info.Size() != 512<<10 {
		t.Errorf("%v: copied %v after two reads, want 512 KiB", err, info)
	}
}

// Wherever a reader is stopped while it opens a tape, it says so, and leaves nothing behind.
func TestOpenTapeEnds(t *testing.T) {
	db, wal := recorded(t)
	dir := filepath.Dir(put(t, db, wal))
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ended := 0
	for n := 0; ; n++ {
		tape, err := OpenTapeContext(newCountdown(t, n), dir)
		if err == nil {
			tape.Close()
			break
		}
		if ended++; !errors.Is(err, errEnded) {
			t.Fatalf("stopped at %d: %v", n, err)
		}
	}
	if ended < 3 {
		t.Errorf("it watches its context at %d places, want it in the copies of database and WAL too", ended)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("%v, left behind: %v", err, left)
	}
}
