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
	if left := leftOut(t, copied); left != "" {
		t.Errorf("a reader leaves out %s", left)
	}
	begin(3)
	if left := leftOut(t, copied); !strings.Contains(left, "00000003.db") {
		t.Errorf("a reader leaves out %q, not the emptied segment", left)
	}
	os.Remove(filepath.Join(copied, tapedir.SegmentName(4)))
	os.Chmod(filepath.Join(copied, tapedir.SegmentName(3)), tapedir.BirthMode)
	if left := leftOut(t, copied); !strings.Contains(left, "00000003.db") {
		t.Errorf("a reader leaves out %q, not the newest segment, which was emptied", left)
	}
	if got := problems(of.verify(t, proof.Options{Key: s.key, Head: s.lastHead()})); !strings.Contains(got, "00000003.db") {
		t.Errorf("an emptied segment: %q", got)
	}
}

// leftOut tells the segments that a reader of a tape leaves out.
func leftOut(t *testing.T, dir string) string {
	t.Helper()
	tape, err := OpenTapeContext(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	var names []string
	for _, l := range tape.LeftOut() {
		names = append(names, filepath.Base(l.Path))
	}
	return strings.Join(names, " ")
}
