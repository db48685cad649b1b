package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Others who fill the disk, once or again and again, do not erase the history: the
// tape stays as large as it was, and goes on. Only if it lasts it becomes smaller,
// by and by.
func TestSqueeze(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=100m"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	o := options(999 * second)
	o.Limits = Limits{MaxBytes: 16 << 20, KeepFreePercent: 50}
	dir := filepath.Join(mount, "tape")
	w := mustOpenWriter(t, dir, o)
	l := newLoad(50, 500)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 2000)
	record := func(batches int) {
		t.Helper()
		for range batches {
			l.fill(conns)
			mustAppend(t, w, l.batch(conns))
			time.Sleep(time.Millisecond) // for the keeper
		}
		waitSealed(t, w)
		w.waitForRemovals()
	}
	record(300)
	before := w.usage().kept
	if before < 8<<20 {
		t.Fatalf("the tape has %d bytes", before)
	}
	first := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.catalog.oldest().number
	}
	oldest := first()

	ballast := filepath.Join(mount, "ballast")
	fill := func(bytes int) {
		if err := os.WriteFile(ballast, make([]byte, bytes), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	most := int64(0)
	stop := watch(func() { most = max(most, used(t, dir)) })
	for range 10 { // and each time what the tape gave up
		d, err := readDisk(mount)
		if err != nil {
			t.Fatal(err)
		}
		fill(int(d.total/2 - w.usage().kept + 1<<20))
		record(1)
	}
	if n := first(); n > oldest+3 {
		t.Errorf("%d segments went at once", n-oldest)
	}
	record(300)
	stop()
	now := w.usage().kept
	if now < before/3 { // sealing needs room as well
		t.Errorf("of %d bytes %d are left", before, now)
	}
	if limit := before + otherFiles; most > limit { // sealing included
		t.Errorf("the tape grew from %d to %d bytes while others took too much", before, most)
	}
	fill(51 << 20)
	for range 60 {
		w.squeeze.since = time.Now().Add(-giveBackEvery)
		record(2)
	}
	least := o.Limits.leastKept(disk{total: 100 << 20})
	if now = w.usage().kept; now > least || now < least/4 {
		t.Errorf("after days %d bytes are left, %d would be", now, least)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.squeeze.last = time.Now().Add(-giveBackEvery)
	record(300)
	if now = w.usage().kept; now < before/2 { // sealing may lag behind on a busy machine, and is left room
		t.Errorf("with room again it has %d bytes, and had %d", now, before)
	}
	mustClose(t, w, l.boot+second)
	checkWhole(t, dir)
}
