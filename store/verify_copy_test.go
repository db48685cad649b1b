package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// A plain copy of a tape that is being recorded has its log and its newest segment of two instants. If the log
// is the younger one, that is found, with the word that a copy can look like this; if it is the older one,
// nothing is wrong. A segment that is rolled back after the recorder stopped has no such excuse.
func TestCopyInTheMiddleOfWriting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o, k := loggedOptions(dir, 100*second)
	w := mustOpenWriter(t, dir, o)
	l := newLoad(5, 5)
	l.boot = 100 * second
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns, stored := make([]Connection, 10), uint64(0)
	add := func() {
		t.Helper()
		l.fill(conns)
		stored += 10
		b := l.batch(conns)
		b.Counters = segment.Counters{"seen": stored, "stored": stored}
		mustAppend(t, w, b)
		k.checkpoint()
	}
	base := t.TempDir()
	copyOf := func(to, part string) {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, part))
		if err != nil || len(names) == 0 {
			t.Fatalf("%v: no %s", err, part)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			rel, _ := filepath.Rel(dir, name)
			copied := filepath.Join(base, to, rel)
			if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(copied, data, info.Mode().Perm()); err != nil {
				t.Fatal(err)
			}
		}
	}
	add()
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	add()
	const segments, logs = "0*.db*", tapedir.LogDir + "/*.log"
	copyOf("log younger", segments)
	copyOf("log older", logs)
	add()
	copyOf("log younger", logs)
	copyOf("log older", segments)
	copyOf("rolled back", segments)
	copyOf("sealed meanwhile", segments)
	add()
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	add()
	copyOf("sealed meanwhile", logs)
	copyOf("sealed segment removed", segments)
	copyOf("sealed segment removed", logs)
	if err := os.Remove(filepath.Join(base, "sealed segment removed", tapedir.SegmentName(2))); err != nil {
		t.Fatal(err)
	}
	mustClose(t, w, l.boot+second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	copyOf("rolled back", logs)

	const word = "a copy that was made file by file in the middle of writing looks like this"
	for name, want := range map[string]struct{ found, said bool }{
		"log younger": {true, true}, "sealed meanwhile": {true, true}, "sealed segment removed": {true, false}, "log older": {false, false}, "rolled back": {true, false},
	} {
		v := (&sealedTape{dir: filepath.Join(base, name)}).verify(t, proof.Options{})
		if found := len(v.Problems) > 0; found != want.found {
			t.Errorf("%s: %s", name, problems(v))
		}
		if said := strings.Contains(strings.Join(v.Notes, "\n"), word); said != want.said {
			t.Errorf("%s: %q", name, v.Notes)
		}
	}
}
