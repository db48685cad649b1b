package store

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// holdRemovals has nothing removed that expires until the function that it returns
// is called.
func holdRemovals(w *Writer) (resume func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removing = make(chan struct{})
	return func() { go w.removeExpired() }
}

// No batch waits for the file of a segment that expires to be freed, nor for as
// many as there are: only when there is no room without it. Until it is gone it
// counts, and nothing is sealed.
func TestRemovalIsNotWaitedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(999 * second)
	o.Limits = small
	w := mustOpenWriter(t, dir, o)
	l := newLoad(50, 500)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 20_000)
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	path := filepath.Join(dir, tapedir.SegmentName(1))
	before := w.usage()
	resume := holdRemovals(w)
	if !w.expireOldest(tapelog.ExpiredSize) {
		t.Fatal("nothing expired")
	}
	now := w.usage()
	if tapedir.IsThere(path) || !tapedir.IsThere(path+tapedir.ExpiringSuffix) || now.expired == 0 || now.kept+now.expired != before.kept {
		t.Errorf("it took %+v, and now %+v; files %q", before, now, files(t, dir))
	}
	l.fill(conns[:100])
	mustAppend(t, w, l.batch(conns[:100]))
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	if s := w.nextUnsealed(); s != nil {
		t.Errorf("%s is sealed before there is room", s.path)
	}
	for _, c := range []struct {
		more int64
		fits bool
	}{{small.MaxBytes - now.kept - retain.OtherFiles - now.expired - 64<<10, true}, {small.MaxBytes - now.kept - retain.OtherFiles, false}} {
		if got := w.fits(growth{db: c.more - w.usage().kept + now.kept}); got != c.fits {
			t.Errorf("%d bytes more fit: %v", c.more, got)
		}
	}
	resume()
	w.waitForRemovals()
	if u := w.usage(); tapedir.IsThere(path+tapedir.ExpiringSuffix) || u.expired != 0 {
		t.Errorf("not gone: %+v, files %q", u, files(t, dir))
	}
	waitSealed(t, w)
	mustClose(t, w, l.boot+second)
}

// A recorder that is killed before an expired segment is gone has it removed by the
// next one; a reader takes it for none.
func TestRemovalIsFinished(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(100*second))
	for i := range uint64(3) {
		mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection((101 + i) * second)}})
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	waitSealed(t, w)
	holdRemovals(w)
	for range 2 {
		w.expireOldest(tapelog.ExpiredSize)
	}
	dir = crash(t, w)
	if got := one(t, mustOpenTape(t, dir).Conn(), "SELECT group_concat(DISTINCT segment) FROM connections"); got != "3" {
		t.Errorf("segments %s are read", got)
	}
	mustClose(t, mustOpenWriter(t, dir, options(110*second)), 120*second)
	if got := files(t, dir); !slices.Equal(got, []string{"00000003.db", "00000004.db", "lock", "manifest", "manifest-details"}) {
		t.Errorf("files: %q", got)
	}
}

// A reader that has a removed segment open may finish, while there is room; then its
// blocks are taken back. A legal hold is never cut.
func TestReadersKeepNoRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(999 * second)
	o.Limits = small
	w := mustOpenWriter(t, dir, o)
	l := newLoad(50, 500)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 5000)
	for range 2 {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		waitSealed(t, w)
	}
	held := filepath.Join(t.TempDir(), "held")
	if err := os.Link(filepath.Join(dir, tapedir.SegmentName(1)), held); err != nil {
		t.Fatal(err)
	}
	var readers []*os.File
	for n := 1; n <= 2; n++ {
		f, err := os.Open(filepath.Join(dir, tapedir.SegmentName(n)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		readers = append(readers, f)
		if !w.expireOldest(tapelog.ExpiredSize) {
			t.Fatal("nothing expired")
		}
	}
	w.waitForRemovals()
	size := func(f *os.File) int64 {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	kept := size(readers[1])
	if u := w.usage(); kept == 0 || u.expired < kept || u.expired > kept+kept/2 {
		t.Errorf("the reader has %d bytes, and %d count", kept, u.expired)
	}
	l.fill(conns[:10])
	mustAppend(t, w, l.batch(conns[:10]))
	if size(readers[1]) != kept {
		t.Error("it was cut while there was room")
	}
	w.makeRoom(growth{db: small.MaxBytes - w.usage().kept - retain.OtherFiles - kept/2})
	if size(readers[0]) == 0 || size(readers[1]) != 0 || w.usage().expired != 0 {
		t.Errorf("held %d, removed %d, usage %+v", size(readers[0]), size(readers[1]), w.usage())
	}
	mustClose(t, w, l.boot+second)
}
