package store

import (
	"testing"
)

// A segment that an earlier recorder left counts with all of its bytes while it is
// sealed.
func TestLeftSegmentCountsWhileItIsSealed(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(999*second))
	l := newLoad(50, 500)
	conns := make([]Connection, 20_000)
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	mustClose(t, w, l.boot)

	w, err := newWriter(dir, options(l.boot+second))
	if err != nil {
		t.Fatal(err)
	}
	defer w.lock.release()
	w.loadCatalog([]int{1}, 0)
	s := w.catalog.list[0]
	if err := w.closeForGood(s); err != nil {
		t.Fatal(err)
	}
	if want := allocatedAt(s.path); want < 20_000*10 || s.bytes != want || s.closed != want {
		t.Errorf("%d bytes are counted, %d as to be sealed: the file has %d", s.bytes, s.closed, want)
	}
}
