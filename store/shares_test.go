package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/conntape/conntape/store/retain"
)

// TestSharesAreLeftToTheNextRecorder: what one recorder keeps the next one finds, also after a crash; it is part of the budget and does
// not trouble verify.
func TestSharesAreLeftToTheNextRecorder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(1000*second))
	t.Cleanup(func() { w.Close(Gap{}, nil) })
	if got := w.KeptShares(); got != nil {
		t.Errorf("a new tape has %q", got)
	}
	for _, text := range []string{"one", "another"} {
		if err := w.KeepShares([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := w.KeptShares(); !bytes.Equal(got, []byte(text)) {
			t.Errorf("%q is kept", got)
		}
	}
	if all, other := retain.Measure(dir); other < 4096 || other > all {
		t.Errorf("%d of %d bytes are no segments", other, all)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := w.KeepShares([]byte("elsewhere")); err == nil {
		t.Error("shares are kept in a directory that took the tape's place")
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("there are %v", files)
	}
}
