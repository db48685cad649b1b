package segment

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/conntape/conntape/store/tapedir"
)

// disturbance is a context that calls do when it is asked for the second time whether it ended: a copy asks before each
// read.
type disturbance struct {
	context.Context
	asked int
	do    func()
}

func (d *disturbance) Err() error {
	if d.asked++; d.asked == 2 {
		d.do()
	}
	return d.Context.Err()
}

// A segment without WAL that was written within the last tick of the file system's clock may be written again without a
// trace: it is copied later.
func TestCopyOfJustWritten(t *testing.T) {
	path, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	now := time.Now()
	put := func(text string) {
		if err := errors.Join(os.WriteFile(path, bytes.Repeat([]byte(text), 1<<20), 0o600), os.Chtimes(path, now, now)); err != nil {
			t.Fatal(err)
		}
	}
	put("a")
	for range 100 { // until it is over within the tick, as on a host that is not busy
		now = time.Now()
		if err := os.Chtimes(path, now, now); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		err = copyOnce(t.Context(), path, to)
		if !tapedir.JustChanged(info) {
			continue
		}
		if err == nil {
			t.Error("a copy was taken in the tick of the last change")
		}
		break
	}
	ctx := &disturbance{t.Context(), 0, func() { now = now.Add(time.Second); put("b") }}
	if err := copySegment(ctx, path, to); err != nil {
		t.Fatal(err)
	}
	if copied, err := os.ReadFile(to); err != nil || !bytes.Equal(copied, bytes.Repeat([]byte("b"), 1<<20)) {
		t.Errorf("%v: the copy mixes two states", err)
	}
}
