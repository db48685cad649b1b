package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// small is the least budget that rotation works with.
var small = retain.Limits{MaxBytes: retain.MinMaxBytes}

// waitSealed waits until the keeper has nothing left to do.
func waitSealed(t testing.TB, w *Writer) {
	t.Helper()
	w.awaited.Add(1)
	defer w.awaited.Add(-1)
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(2 * time.Millisecond) {
		w.mu.Lock()
		busy := false
		for _, s := range w.catalog.list {
			busy = busy || s.state == unsealed
		}
		w.mu.Unlock()
		if !busy {
			return
		}
	}
	t.Fatal("sealing does not end")
}

// used is what the files of a directory take, as their sizes say.
func used(t testing.TB, dir string) (sum int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// watch calls look all the time until the function that it returns is called.
func watch(look func()) (stop func()) { return watchEvery(200*time.Microsecond, look) }

// watchEvery is watch with that pause.
func watchEvery(pause time.Duration, look func()) (stop func()) {
	var running sync.WaitGroup
	end := make(chan struct{})
	running.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(pause):
				look()
			}
		}
	})
	return func() { close(end); running.Wait() }
}

// A segment that is full is closed and sealed while the next one takes the
// batches. Nothing is lost or twice, there is no gap, and the tape is never
// larger than it may be.
func TestRotationBySize(t *testing.T) {
	dir := t.TempDir()
	h := &heard{}
	o := options(999 * second)
	o.Limits, o.Events = retain.Limits{MaxBytes: 2 * retain.MinMaxBytes}, h.listen
	w := mustOpenWriter(t, dir, o)
	l := newLoad(50, 500)
	w.now = func(kind string) (Anchor, error) { return at(l.boot), nil }
	most := int64(0)
	stop := watch(func() { most = max(most, used(t, dir)) })
	conns := make([]Connection, 1000)
	for range 150 { // some 4.4 MB, 6.9 MB sealed
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
	}
	waitSealed(t, w)
	stop()
	if most > o.Limits.MaxBytes {
		t.Errorf("the tape took %d bytes, %d allowed", most, o.Limits.MaxBytes)
	}
	mustClose(t, w, l.boot)
	if n := checkWhole(t, dir); n != 150_000 {
		t.Errorf("%d connections", n)
	}
	tape := mustOpenTape(t, dir)
	segments := tape.Segments()
	if len(segments) < 3 {
		t.Fatalf("%d segments", len(segments))
	}
	for i, s := range segments[:len(segments)-1] {
		if s.Snapshot || s.State != segment.StateClosed || !tapedir.ClosedFile(s.Path) {
			t.Errorf("segment %d is not sealed: %+v", i+1, s)
		}
	}
	if got := rows(t, tape.Conn(), "SELECT cause FROM gaps"); !slices.Equal(got, []string{"start", "stopped"}) {
		t.Errorf("gaps %q", got)
	}
	if got := one(t, tape.Conn(), "SELECT count(*) FROM (SELECT cookie FROM connections GROUP BY 1 HAVING count(*) > 1)"); got != "0" {
		t.Errorf("%s connections are there twice", got)
	}
	for _, want := range []string{"SegmentStarted 00000002.db after 1: size", "SegmentSealed 00000001.db"} {
		if !slices.Contains(h.lines, want) {
			t.Errorf("event %q is missing", want)
		}
	}
	for _, name := range files(t, dir) {
		if name != segment.DetailsName && strings.Contains(name, "-") || strings.Contains(name, tapedir.SealingSuffix) {
			t.Errorf("%s was left", name)
		}
	}
}

// More than a budget, or a file system, holds, several times over (20 with
// CONNTAPE_TEST_LONG): recording goes on, and the newest history is whole.
func TestTurnovers(t *testing.T) {
	for name, c := range map[string]struct {
		disk   string
		limits retain.Limits
	}{
		"budget":    {"64m", small},
		"free":      {"12m", retain.Limits{MaxBytes: 64 << 20, KeepFreePercent: 20}},
		"full disk": {"8m", retain.Limits{MaxBytes: 64 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			mount := t.TempDir()
			if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size="+c.disk); err != nil {
				t.Skipf("needs to mount a tmpfs: %v", err)
			}
			t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
			dir := filepath.Join(mount, "tape")
			o := options(999 * second)
			o.Limits = c.limits
			w := mustOpenWriter(t, dir, o)
			l := newLoad(50, 500)
			w.now = func(kind string) (Anchor, error) { return at(l.boot), nil }
			whole, err := retain.ReadDisk(mount)
			if err != nil {
				t.Fatal(err)
			}
			most := int64(0)
			stop := watch(func() {
				if d, err := retain.ReadDisk(mount); err == nil {
					most = max(most, whole.Total-d.Free)
				}
			})
			turnovers := int64(rounds(2, 3, 20))
			budget := min(c.limits.MaxBytes, whole.Total)
			conns := make([]Connection, 2000)
			stored := uint64(0)
			for written := int64(0); written < turnovers*budget; written += int64(len(conns)) * 30 {
				l.fill(conns)
				mustAppend(t, w, l.batch(conns))
				stored += uint64(len(conns))
			}
			stop()
			mustClose(t, w, l.boot)
			t.Logf("%d connections, %d bytes at the most", stored, most)
			limit := c.limits.MaxBytes
			if c.limits.KeepFreePercent > 0 {
				limit = whole.Total * int64(100-c.limits.KeepFreePercent) / 100
			}
			if most > limit {
				t.Errorf("%d bytes were taken, %d allowed", most, limit)
			}
			tape := mustOpenTape(t, dir)
			if cov, err := tape.Coverage(); err != nil || len(cov.LeftOut) != 0 {
				t.Errorf("coverage: %+v, %v", cov, err)
			}
			// What there is has no hole: cookies are numbered.
			got := one(t, tape.Conn(), "SELECT max(cookie) - min(cookie) + 1 - count(*), max(cookie) FROM connections")
			if want := fmt.Sprintf("0|%d", 100_000+stored); got != want {
				t.Errorf("hole, newest: %s, want %s", got, want)
			}
			if kept := one(t, tape.Conn(), "SELECT count(*) FROM connections"); kept == fmt.Sprint(stored) || len(kept) < 5 {
				t.Errorf("%s of %d connections are kept", kept, stored)
			}
		})
	}
}

// Segments are closed when they are old, and removed when their last event is.
func TestRotationAndRetentionByAge(t *testing.T) {
	dir := t.TempDir()
	h := &heard{}
	o := options(1000 * second)
	o.Limits, o.Events = retain.Limits{MaxAge: 8 * time.Hour}, h.listen
	o.Now.Sync = syncedClock
	w := mustOpenWriter(t, dir, o)
	x := newWorld()
	const hour = 3600 * second
	for i := range uint64(20) {
		now := 1000*second + i*hour/2
		w.now = func(kind string) (Anchor, error) { return at(now), nil }
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(now)}, Now: now})
	}
	waitSealed(t, w)
	mustClose(t, w, 1000*second+10*hour)
	tape := mustOpenTape(t, dir)
	// Half-hours 0 to 19; now is 9.5 h, so that what ended before 1.5 h is gone.
	if got := one(t, tape.Conn(), "SELECT min(time_ns), max(time_ns), count(DISTINCT segment) FROM connections"); got != fmt.Sprintf("%d|%d|9",
		epoch2026+int64(1000*second+hour), epoch2026+int64(1000*second+19*hour/2)) {
		t.Errorf("kept %s", got)
	}
	if !slices.Contains(h.lines, "SegmentExpired 00000001.db: age") || slices.Contains(h.lines, "SegmentExpired 00000002.db: age") {
		t.Errorf("events: %q", h.lines)
	}
}

// A clock that is wrong by ten years does not empty the tape, unless the kernel
// says that it is right.
func TestWrongClockKeepsHistory(t *testing.T) {
	for _, sync := range []string{"", syncedClock} {
		dir := smallTape(t, 3)
		o := options(100 * second)
		o.BootID, o.MachineID = "later", "another"
		o.Now.Real += 10 * 365 * 24 * int64(time.Hour)
		o.Now.Sync = sync
		o.Limits.MaxAge = 90 * 24 * time.Hour
		w := mustOpenWriter(t, dir, o)
		mustAppend(t, w, Batch{Now: 101 * second})
		mustClose(t, w, 102*second)
		want := 4
		if sync == syncedClock {
			want = 1
		}
		if got := len(mustOpenTape(t, dir).Segments()); got != want {
			t.Errorf("clock %q: %d segments, want %d", sync, got, want)
		}
	}
}

// A request closes the segment at once; rows written after it are in the next
// one, whose clock goes on where the other ended although the host's was set.
func TestRotate(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(101 * second)}, Now: 101 * second, Counters: segment.Counters{"seen": 1, "stored": 1}})
	w.now = func(kind string) (Anchor, error) {
		a := at(102 * second)
		a.Real -= int64(7200 * second) // somebody set the clock back
		return a, nil
	}
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(103 * second)}, Now: 103 * second, Counters: segment.Counters{"seen": 2, "stored": 2}})
	waitSealed(t, w)
	mustClose(t, w, 104*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT segment, time, time_ns - ? FROM connections ORDER BY time_ns", epoch2026)
	if want := []string{"1|2026-01-01T00:01:41.000000000Z|101000000000", "2|2025-12-31T22:01:43.000000000Z|103000000000"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := rows(t, tape.Conn(), "SELECT segment, seen, stored FROM segments"); !slices.Equal(got, []string{"1|1|1", "2|1|1"}) {
		t.Errorf("counters %q", got)
	}
	if got := one(t, connOf(t, tape, 2), "SELECT lower(hex(previous_hash)) FROM segment"); got != hashOfFile(t, filepath.Join(dir, "00000001.db")) {
		t.Errorf("previous hash %s", got)
	}
	if err := w.Rotate(); err == nil {
		t.Error("a closed tape was rotated")
	}
}

func hashOfFile(t testing.TB, path string) string {
	t.Helper()
	sum, _, err := segment.HashFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum)
}

// Removing a segment takes away everything of it.
func TestExpiryRemovesAllFiles(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(101 * second)}, Now: 101 * second})
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	for _, name := range []string{"00000001.db-wal", "00000001.db.sealing"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !w.expireOldest(tapelog.ExpiredSize) || w.expireOldest(tapelog.ExpiredSize) {
		t.Error("one segment can be removed, and not the active one")
	}
	mustClose(t, w, 102*second)
	for _, name := range []string{"00000001.db.expiring", "00000001.db-wal"} { // a removal that was cut short
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, mustOpenWriter(t, dir, options(103*second)), 104*second)
	if names := files(t, dir); !slices.Equal(names, []string{"00000002.db", "lock", "manifest", "manifest-details"}) {
		t.Errorf("files: %q", names)
	}
}

// RotateAndSeal returns when all that was closed is sealed, also what waits for results of connects, and does not wait for a keeper that
// works at the lowest priority.
func TestRotateAndSeal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(second))
	defer w.Close(Gap{}, nil)
	x := newWorld()
	for i := range uint64(3) {
		now := (2 + i) * second
		w.now = func(string) (Anchor, error) { return at(now), nil }
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(now)}, Now: now})
		_, full := w.Segment()
		if err := w.RotateAndSeal(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(full)
		if err != nil || info.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s is not sealed: %v %v", full, info.Mode(), err)
		}
	}
}
