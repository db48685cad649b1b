package store

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
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
	defer w.lock.Release()
	w.loadCatalog([]int{1}, 0)
	s := w.catalog.list[0]
	if err := w.closeForGood(s); err != nil {
		t.Fatal(err)
	}
	if want := retain.AllocatedAt(s.path); want < 20_000*10 || s.bytes != want || s.closed != want {
		t.Errorf("%d bytes are counted, %d as to be sealed: the file has %d", s.bytes, s.closed, want)
	}
}

// A tape keeps its room on a disk that others have filled, however often its recorder
// starts, and takes no more than its room while it does.
func TestRestartsKeepTheRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(999 * second)
	o.Limits = retain.Limits{MaxBytes: 32 << 20, Reserve: true}
	l := newLoad(50, 500)
	conns := make([]Connection, 10_000)
	most := int64(0)
	for run := range 8 {
		if run > 0 {
			o.Limits.KeepFree = 1 << 50 // nothing that the tape has not is to be had
		}
		o.Now = at(l.boot)
		watched := watchEvery(time.Millisecond, func() { most = max(most, taken(dir)) })
		w := mustOpenWriter(t, dir, o)
		w.now = func(string) (Anchor, error) { return at(l.boot), nil }
		if w.reserve.dir == "" {
			t.Skip("NOT TESTED: needs a file system that can reserve room")
		}
		// A monitor that compares what is left with the free disk alone would raise an alarm on a full disk.
		if reserved, err := Reserved(dir); err != nil || reserved < o.Limits.MaxBytes/8 { // three quarters hold segments by then
			t.Errorf("start %d: %d bytes are reserved: %v", run, reserved, err)
		}
		if w.catalog.room < o.Limits.MaxBytes-64<<10 { // a page at each start
			t.Errorf("start %d: the room is %d bytes, and was %d", run, w.catalog.room, o.Limits.MaxBytes)
		}
		for range 5 {
			l.fill(conns)
			mustAppend(t, w, l.batch(conns))
		}
		mustClose(t, w, l.boot)
		l.boot += second
		watched()
	}
	if most > o.Limits.MaxBytes {
		t.Errorf("the tape took %d bytes", most)
	}
}

// What is recorded into the slot of a segment that was sealed is not judged by the page
// sums of that one.
func TestSlotForgetsItsPageSums(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(999 * second)
	o.Limits = retain.Limits{MaxBytes: 32 << 20, Reserve: true}
	l := newLoad(50, 500)
	o.Now = at(l.boot)
	w := mustOpenWriter(t, dir, o)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	if w.reserve.dir == "" {
		t.Skip("NOT TESTED: needs a file system that can reserve room")
	}
	conns := make([]Connection, 1000)
	write := func() {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
	}
	write()
	w.reserve.mu.Lock()
	for _, n := range w.reserve.free {
		slot := w.reserve.path(slotName(n))
		if err := writeStart(slot, emptyDatabase(), 0); err != nil {
			t.Fatal(err)
		}
		if err := sqlitefile.AppendSums(slot, w.reserve.slot); err != nil {
			t.Fatal(err)
		}
	}
	w.reserve.mu.Unlock()
	if a := w.do(Request{Do: DoRotate}); a.Error != "" {
		t.Fatal(a.Error)
	}
	write()
	mustClose(t, w, l.boot)
	numbers, newest, err := tapedir.List(dir)
	if err != nil || len(numbers) < 2 {
		t.Fatal(numbers, err)
	}
	path := filepath.Join(dir, tapedir.SegmentName(newest))
	rows := 0
	err = segment.PeekAt(path, func(conn *sqlite.Conn) error {
		return segment.Exec(conn, func(q *sqlite.Stmt) error { rows = q.ColumnInt(0); return nil }, "SELECT count(*) FROM connection")
	})
	if err != nil || rows != len(conns) {
		t.Errorf("%d rows of %d: %v", rows, len(conns), err)
	}
}

// A recorder says when it starts that the room of its tape is not safe: where it is too
// small for slots and the file system keeps no blocks for root, and where nothing can be
// reserved.
func TestUnsafeRoomIsTold(t *testing.T) {
	memory := t.TempDir()
	if err := unix.Mount("tmpfs", memory, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("NOT TESTED: needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(memory, unix.MNT_DETACH) })
	bare := mountImage(t, 400<<20, "mkfs.ext4", "-q", "-m", "0")
	for _, c := range []struct {
		mount  string
		budget int64
		told   string
	}{
		{bare, retain.MinMaxBytes, "too small to be reserved in slots"},
		{bare, minSlotted, ""},
		{mountImage(t, 400<<20, "mkfs.ext4", "-q"), retain.MinMaxBytes, ""},
		{memory, minSlotted, "cannot be reserved here"},
	} {
		var log strings.Builder
		o := options(999 * second)
		o.Limits, o.Logger = retain.Limits{MaxBytes: c.budget, Reserve: true}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		mustClose(t, mustOpenWriter(t, filepath.Join(c.mount, fmt.Sprint("tape", c.budget)), o), 1000*second)
		if text := log.String(); c.told == "" && text != "" || !strings.Contains(text, c.told) {
			t.Errorf("%d bytes: %q", c.budget, text)
		}
	}
}
