package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// connectionsIn counts the connections of every segment file of a tape, and the
// files. It does not go by what a reader makes of the tape.
func connectionsIn(t testing.TB, dir string) (connections, segments int) {
	t.Helper()
	numbers, _, err := tapedir.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		err := segment.Peek(t.Context(), filepath.Join(dir, tapedir.SegmentName(n)), func(conn *sqlite.Conn) error {
			return segment.Exec(conn, func(q *sqlite.Stmt) error { connections += q.ColumnInt(0); return nil }, `SELECT count(*) FROM connection`)
		})
		if err != nil {
			t.Fatalf("segment %d: %v", n, err)
		}
	}
	return connections, len(numbers)
}

// Whoever asks for rotation again and again closes nothing that is empty, and costs
// no history.
func TestRotatingOftenCostsNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	h := &heard{}
	o := options(100 * second)
	o.Events = h.listen
	w := mustOpenWriter(t, dir, o)
	x := newWorld()
	now := 101 * second
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(now)}, Now: now})
	for range 20 {
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		now += second
		mustAppend(t, w, Batch{Now: now}) // alive, and nothing to tell
	}
	if a := w.do(Request{Do: DoRotate}); a.Error != "" || a.File != "" {
		t.Errorf("an empty segment was closed: %+v", a)
	}
	if _, err := w.hold(Request{Reason: "x"}); err != nil {
		t.Errorf("hold: %v", err)
	}
	if connections, segments := connectionsIn(t, dir); connections != 1 || segments != 2 {
		t.Errorf("%d connections in %d segments", connections, segments)
	}
	for range 20 { // as many as were ever asked for, if there is something in them
		now += second
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(now)}, Now: now})
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	waitSealed(t, w)
	mustClose(t, w, now+second)
	if connections, segments := connectionsIn(t, dir); connections != 21 || segments != 22 {
		t.Errorf("%d connections in %d segments", connections, segments)
	}
	for _, line := range h.lines {
		if strings.HasPrefix(line, "SegmentExpired") {
			t.Error(line)
		}
	}
}

// Without a recorder an empty segment is not closed either.
func TestRotatingEmptyTape(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	mustClose(t, mustOpenWriter(t, dir, options(100*second)), 101*second)
	if a, err := Ask(dir, Request{Do: DoRotate}, options(102*second), nil); err != nil || a.File != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if tapedir.ClosedFile(filepath.Join(dir, tapedir.SegmentName(1))) {
		t.Error("it was closed")
	}
}

// A member of the reading group who locks the newest segment each time that the
// recorder starts costs nothing: the segment is left, and sealed when it can be.
func TestReadLocksCostNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	x := newWorld()
	now := 100 * second
	const restarts = 15
	var locked []*os.File
	for range restarts {
		w := mustOpenWriter(t, dir, options(now))
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(now + second)}, Now: now + second})
		now += 2 * second
		mustClose(t, w, now)
		_, newest, err := tapedir.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, tapedir.SegmentName(newest)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lock := unix.Flock_t{Type: unix.F_RDLCK, Start: tapedir.LockBytesStart, Len: tapedir.LockBytesLen}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
			t.Fatal(err)
		}
		locked = append(locked, f)
		now += second
	}
	if connections, segments := connectionsIn(t, dir); connections != restarts || segments != restarts {
		t.Errorf("%d connections in %d segments", connections, segments)
	}
	for _, f := range locked {
		f.Close()
	}
	w := mustOpenWriter(t, dir, options(now))
	waitSealed(t, w)
	mustClose(t, w, now+second)
	for n := 1; n < restarts; n++ {
		if path := filepath.Join(dir, tapedir.SegmentName(n)); !tapedir.ClosedFile(path) {
			t.Errorf("%s is not sealed", path)
		}
	}
}

// flood records so many connections in batches of 100,000, as a recorder does, at so
// many a second, 0 as fast as it goes. It returns the most that the files of the tape
// took at any look, and how many looks there were.
func flood(t testing.TB, w *Writer, l *load, connections, perSecond int) (most int64, looks int) {
	t.Helper()
	stop := watchEvery(10*time.Millisecond, func() { most, looks = max(most, taken(w.dir)), looks+1 })
	defer stop()
	begin := time.Now()
	for done := 0; done < connections; {
		n := min(100_000, connections-done)
		if perSecond > 0 {
			n = min(n, max(1, perSecond))
		}
		conns := make([]Connection, n)
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
		if done += n; perSecond > 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(done) * time.Second / time.Duration(perSecond))))
		}
	}
	waitSealed(t, w)
	w.waitForRemovals()
	return most, looks
}

// taken is what the files of a tape take on the disk, the WAL of the active segment
// and what is removed in the background included, but not legal holds.
//
// Files come and go while they are added up: room that goes from one to another counts
// twice when it does so in between, but not twice in a row.
func taken(dir string) int64 { return min(takenOnce(dir), takenOnce(dir)) }

func takenOnce(dir string) (sum int64) {
	seen := map[uint64]bool{} // files that have two names at the moment
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == tapedir.HeldDir {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil && !seen[info.Sys().(*syscall.Stat_t).Ino] {
			seen[info.Sys().(*syscall.Stat_t).Ino] = true
			sum += retain.Allocated(info)
		}
		return nil
	})
	return sum
}

// history is what the segments take, sealed or not, without what sealing needs.
func history(t testing.TB, dir string) (sum int64) {
	t.Helper()
	numbers, _, err := tapedir.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		sum += retain.AllocatedAt(filepath.Join(dir, tapedir.SegmentName(n)))
	}
	return sum
}

// Whatever the load is, the tape never takes more than its budget, and at least 80%
// of it holds history once there was that much. In slots, which may be longer than what is in them, three quarters are pages of it.
func TestBudgetIsKeptAndUsed(t *testing.T) {
	for _, c := range []struct {
		budget               int64
		processes, endpoints int
		connections          int
		reserve              bool
	}{
		{retain.MinMaxBytes, 50, 500, 400_000, false},
		{16 << 20, 50, 500, 800_000, false},
		{16 << 20, 1, 1 << 20, 150_000, false}, // one process connects to nothing twice
		{32 << 20, 50, 500, 1_500_000, false},
		{32 << 20, 5000, 20_000, 400_000, false}, // each thread a process of its own
		{minSlotted, 32, 320, 500_000, true},
		{32 << 20, 1, 1 << 20, 300_000, true},
	} {
		if testing.Short() && (c.budget > 16<<20 || c.processes == 1) {
			continue
		}
		t.Run(fmt.Sprintf("%d MiB, %d processes, %d endpoints, reserve %v", c.budget>>20, c.processes, c.endpoints, c.reserve), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tape")
			o := options(999 * second)
			o.Limits = retain.Limits{MaxBytes: c.budget, Reserve: c.reserve}
			w := mustOpenWriter(t, dir, o)
			if c.reserve && !w.slotted() {
				t.Skip("nothing can be reserved here")
			}
			l := newLoad(c.processes, c.endpoints)
			w.now = func(string) (Anchor, error) { return at(l.boot), nil }
			most, looks := flood(t, w, l, c.connections, 0)
			kept := history(t, dir)
			t.Logf("at most %.1f%% of the budget in %d looks, %.1f%% history at the end", 100*float64(most)/float64(c.budget), looks, 100*float64(kept)/float64(c.budget))
			if most > c.budget {
				t.Errorf("the tape took %d bytes, and may %d", most, c.budget)
			}
			least := c.budget / 100 * 80
			if c.budget < 16<<20 {
				least = c.budget / 100 * 60
			}
			if kept < least {
				t.Errorf("%d bytes of history, and at least %d would be right", kept, least)
			}
			if c.reserve {
				waitSealed(t, w)
				if got := pagesOf(t, dir); got < c.budget/100*75 {
					t.Errorf("%d bytes of pages in %d of slots", got, kept)
				}
			}
			mustClose(t, w, l.boot)
		})
	}
}

// pagesOf is what the pages of all sealed segments of a tape take, in bytes.
func pagesOf(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	numbers, _, err := tapedir.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		bytes += sealedUse(filepath.Join(dir, tapedir.SegmentName(n)))
	}
	return bytes
}
