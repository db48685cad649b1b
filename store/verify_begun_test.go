package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/tapedir"
)

// TestCopyOfOneBegun: cp makes a copy with modes of its own. A segment that a recorder had only begun to make is no finding there, but
// only where the next one would be: an empty file in the place of one that is gone is.
func TestCopyOfOneBegun(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	begin := func(number int) {
		t.Helper()
		path := filepath.Join(copied, tapedir.SegmentName(number))
		os.Remove(path)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	begin(4)
	of := &sealedTape{dir: copied}
	v := of.verify(t, proof.Options{Key: s.key, Head: s.lastHead()})
	if got := problems(v); got != "" || !strings.Contains(strings.Join(v.Notes, "\n"), "00000004.db was never more than begun") {
		t.Errorf("problems %q, notes %q", got, v.Notes)
	}
	begin(3)
	if got := problems(of.verify(t, proof.Options{Key: s.key, Head: s.lastHead()})); !strings.Contains(got, "00000003.db") {
		t.Errorf("an emptied segment: %q", got)
	}
}
