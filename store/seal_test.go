package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/posting"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// rotated records two segments, of which the keeper has not touched the first
// yet, and returns the writer and where it records.
func rotated(t testing.TB, events func(Event)) (w *Writer, dir string) {
	t.Helper()
	dir = t.TempDir()
	o := options(999 * second)
	o.Events = events
	w = mustOpenWriter(t, dir, o)
	w.mu.Lock()
	w.hurry = true // the keeper takes nothing
	w.mu.Unlock()
	l := newLoad(20, 300)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 3000)
	for range 3 {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
	}
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	return w, dir
}

// goOn lets the keeper work again.
func (w *Writer) goOn() {
	w.mu.Lock()
	w.hurry = false
	w.mu.Unlock()
	w.wakeKeeper()
}

// finish starts a recorder on what a crash left, lets it seal, and returns the
// hash of the first segment and what was told of it.
func finish(t *testing.T, dir string) (sum string, told int) {
	t.Helper()
	o := options(9999 * second)
	o.Events = func(e Event) {
		if s, ok := e.(SegmentSealed); ok && s.Segment == 1 {
			told++
			sum = fmt.Sprintf("%x", s.SHA256)
		}
	}
	w := mustOpenWriter(t, dir, o)
	waitSealed(t, w)
	mustClose(t, w, 10_000*second)
	path := filepath.Join(dir, "00000001.db")
	if !tapedir.ClosedFile(path) || tapedir.IsThere(path+"-wal") || tapedir.IsThere(path+tapedir.SealingSuffix) {
		t.Errorf("not sealed: %q", files(t, dir))
	}
	if got := hashOfFile(t, path); told > 0 && got != sum {
		t.Errorf("told %s, is %s", sum, got)
	} else {
		sum = got
	}
	return sum, told
}

// Wherever sealing is interrupted, the next recorder finishes it, with the same
// bytes, and says so.
func TestInterruptedSealing(t *testing.T) {
	w, dir := rotated(t, nil)
	before := crash(t, w) // killed before the keeper began
	w.goOn()
	waitSealed(t, w)
	mustClose(t, w, 5000*second)
	want := hashOfFile(t, filepath.Join(dir, "00000001.db"))

	copies := func() string {
		to := t.TempDir()
		if err := os.CopyFS(to, os.DirFS(before)); err != nil {
			t.Fatal(err)
		}
		return to
	}
	for name, interrupt := range map[string]func(dir string){
		"before it began": func(string) {},
		"closed": func(dir string) {
			seg, err := continueSegment(filepath.Join(dir, "00000001.db"), 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := seg.conn.Close(); err != nil {
				t.Fatal(err)
			}
		},
		"copy begun": func(dir string) {
			for _, name := range []string{tapedir.SealingSuffix, tapedir.SealingSuffix + "-journal"} {
				if err := os.WriteFile(filepath.Join(dir, "00000001.db"+name), []byte("half a copy"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"in place, not told": func(dir string) {
			finish(t, dir)
			if err := os.Chmod(filepath.Join(dir, "00000001.db"), tapedir.FileMode); err != nil {
				t.Fatal(err)
			}
		},
		"stopped half-way, twice": func(dir string) {
			o := options(8000 * second)
			for range 2 {
				w := mustOpenWriter(t, dir, o)
				w.mu.Lock()
				if s := w.catalog.find(1); s.done != nil {
					s.giveUp()
				}
				w.hurry = true
				w.mu.Unlock()
				mustClose(t, w, 8001*second)
				o.Now = at(8100 * second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copies()
			interrupt(dir)
			sum, told := finish(t, dir)
			if sum != want {
				t.Errorf("another file: %s, want %s", sum, want)
			}
			if told != 1 && name != "stopped half-way, twice" {
				t.Errorf("told %d times", told)
			}
			if sum, told := finish(t, dir); sum != want || told != 0 {
				t.Errorf("touched again, told %d times", told)
			}
		})
	}
}

// The hash of the segment before is in each, though another recorder sealed it.
func TestPreviousHash(t *testing.T) {
	dir := smallTape(t, 3)
	for i := range uint64(2) { // the last one goes on with the third segment
		o := options((200 + i) * second)
		o.BootID, o.MachineID = "boot-2", "machine-2"
		o.Now.Real += 2 * int64(1000*second)
		w := mustOpenWriter(t, dir, o)
		for start := time.Now(); i == 1 && time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
			w.mu.Lock()
			known := w.hashed.number
			w.mu.Unlock()
			if known == 2 {
				break
			}
		}
		mustAppend(t, w, Batch{Now: (200 + i) * second})
		mustClose(t, w, (200+i)*second)
	}
	tape := mustOpenTape(t, dir)
	for i := 2; i <= 3; i++ {
		got := one(t, connOf(t, tape, i), "SELECT lower(hex(previous_hash)) FROM segment")
		if want := hashOfFile(t, filepath.Join(dir, tapedir.SegmentName(i-1))); got != want {
			t.Errorf("segment %d has %s, want %s", i, got, want)
		}
	}
}

// The index has every connection of each endpoint, and every endpoint of each task.
func TestPostings(t *testing.T) {
	w, dir := rotated(t, nil)
	w.goOn()
	waitSealed(t, w)
	mustClose(t, w, 5000*second)
	tape := mustOpenTape(t, filepath.Join(dir, "00000001.db"))
	var got, pairs []string
	err := segment.Exec(connOf(t, tape, 1), func(q *sqlite.Stmt) error {
		of := fmt.Sprintf("%d|%d|%d|%d", q.ColumnInt64(2), q.ColumnInt64(3), q.ColumnInt64(4), q.ColumnInt64(5))
		rows, connects, first, last := int64(0), int64(0), int64(math.MaxInt64), int64(0)
		r := posting.NewReader(segment.ColumnBytes(q, 1, nil))
		for r.Next() {
			for id, n, ok := r.Row(); ok; id, n, ok = r.Row() {
				got = append(got, fmt.Sprintf("%d|%d|%d|%d|%d", q.ColumnInt64(0), r.Task, r.Shape, id, n))
				rows, connects, first, last = rows+1, connects+n, min(first, id), max(last, id)
			}
		}
		if is := fmt.Sprintf("%d|%d|%d|%d", rows, connects, first, last); is != of {
			t.Errorf("a part is %s, and says %s", is, of)
		}
		return r.Err()
	}, "SELECT remote, list, rows, connects, first_ns, last_ns FROM posting ORDER BY remote, part")
	if err != nil {
		t.Fatal(err)
	}
	want := rows(t, connOf(t, tape, 1), "SELECT c.remote, c.task, c.shape, c.id, coalesce(r.count, 1) FROM connection c LEFT JOIN repeat r ON r.id = c.id ORDER BY 1, 2, 3, 4")
	if !slices.Equal(got, want) || len(got) != 9000 {
		t.Errorf("%d rows in the index, want %d", len(got), len(want))
	}
	err = segment.Exec(connOf(t, tape, 1), func(q *sqlite.Stmt) error {
		for remote, err := range posting.IDs(segment.ColumnBytes(q, 1, nil)) {
			if err != nil {
				return err
			}
			pairs = append(pairs, fmt.Sprintf("%d|%d", q.ColumnInt64(0), remote))
		}
		return nil
	}, "SELECT task, remotes FROM reach ORDER BY task, part")
	if err != nil {
		t.Fatal(err)
	}
	if want := rows(t, connOf(t, tape, 1), "SELECT DISTINCT task, remote FROM connection ORDER BY 1, 2"); !slices.Equal(pairs, want) {
		t.Errorf("%d pairs, want %d", len(pairs), len(want))
	}
}

// Pairs that are more than fit into memory are packed in several passes, to the
// same end.
func TestReachInPasses(t *testing.T) {
	w, dir := rotated(t, nil)
	w.goOn()
	waitSealed(t, w)
	mustClose(t, w, 5000*second)
	err := segment.Peek(t.Context(), filepath.Join(dir, "00000001.db"), func(conn *sqlite.Conn) error {
		all, more, err := segment.NextReached(conn, nil, 1<<20)
		if err != nil || more || len(all) < 200 {
			t.Fatalf("%d pairs, more %v: %v", len(all), more, err)
		}
		for _, most := range []int{1, 7, 40, len(all) / 2, len(all) - 1} {
			var got []segment.Pair
			var after *segment.Pair
			for more := true; more && len(got) <= most*20; {
				var pairs []segment.Pair
				if pairs, more, err = segment.NextReached(conn, after, most); err != nil {
					t.Fatal(err)
				}
				got = append(got, pairs...)
				after = &got[len(got)-1]
			}
			if want := all[:min(len(all), len(got))]; !slices.Equal(got, want) || most >= 40 && len(got) != len(all) {
				t.Errorf("%d at a time: %d pairs, want %d", most, len(got), len(all))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A row that stands for several counts as these.
func TestSealOfRepeatedRows(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	c := x.connection(101 * second)
	c.Count, c.LastBootTime = 7, 102*second
	mustAppend(t, w, Batch{Connections: []Connection{c, x.connection(103 * second)}})
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustClose(t, w, 110*second)
	first := epoch2026 + int64(101*second)
	err := segment.PeekAt(filepath.Join(dir, "00000001.db"), func(conn *sqlite.Conn) error {
		for query, want := range map[string]string{
			"SELECT rows, connects, first_ns, last_ns FROM seal":                       fmt.Sprintf("2|8|%d|%d", first, first+int64(2*second)),
			"SELECT remote, part, rows, connects, last_ns FROM posting":                fmt.Sprintf("1|0|2|8|%d", first+int64(2*second)),
			"SELECT task, part, hex(remotes), (SELECT count(*) FROM block) FROM reach": "1|0|01|0",
		} {
			if got := one(t, conn, query); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A segment that turns out to be damaged is kept as it is, and what can be read of
// it takes its place, at once or when the next recorder finds it.
func TestDamagedSegmentIsSalvaged(t *testing.T) {
	for _, later := range []bool{false, true} {
		var told []string
		listen := func(e Event) {
			switch e := e.(type) {
			case SegmentSetAside:
				told = append(told, "aside "+e.File)
			case SegmentSealed:
				if e.Segment == 1 {
					told = append(told, "sealed "+e.File)
				}
			}
		}
		w, dir := rotated(t, nil)
		path := filepath.Join(dir, "00000001.db")
		s := w.catalog.find(1)
		if err := s.seg.close(); err != nil { // as after a clean stop
			t.Fatal(err)
		}
		s.seg = nil
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		page := data[40*pageSize:]
		for page[0] != 13 || binary.BigEndian.Uint16(page[3:]) < 128 { // a leaf of a table with so many rows: it is connection
			page = page[pageSize:]
		}
		clear(page[:pageSize])
		if later {
			clear(data[100:pageSize]) // no SQLite can open it
		}
		if err := os.WriteFile(path, data, 0o640); err != nil {
			t.Fatal(err)
		}
		if later {
			dir = crash(t, w)
			path = filepath.Join(dir, "00000001.db")
			o := options(9000 * second)
			o.Events = listen
			w = mustOpenWriter(t, dir, o)
		} else {
			w.o.Events = listen
			w.goOn()
		}
		waitSealed(t, w)
		mustClose(t, w, 9500*second)
		if !slices.Equal(told, []string{"aside 00000001.db", "sealed 00000001.db"}) || !tapedir.ClosedFile(path) || tapedir.IsThere(path+tapedir.SealingSuffix) {
			t.Errorf("told %q, files %q", told, files(t, dir))
		}
		// Before it is known to be damaged, that it is closed is written into it.
		if kept, err := os.ReadFile(path + tapedir.DamagedSuffix); err != nil || later && !slices.Equal(kept, data) {
			t.Errorf("the damaged file was touched: %v", err)
		}
		tape := mustOpenTape(t, dir)
		got := one(t, tape.Conn(), "SELECT count(*) > 8000, count(*) < 9000 FROM connections WHERE segment = 1")
		if got != "1|1" {
			t.Errorf("connections: %s", got)
		}
		if got := one(t, tape.Conn(), "SELECT count(*) FROM gaps WHERE cause = 'salvaged' AND lost > 0"); got != "1" {
			t.Errorf("%s gaps", got)
		}
		tape.Close()
		w = mustOpenWriter(t, dir, options(9900*second))
		w.expireOldest(tapelog.ExpiredSize)
		mustClose(t, w, 9901*second)
		if tapedir.IsThere(path) || tapedir.IsThere(path+tapedir.DamagedSuffix) {
			t.Errorf("files of an expired segment: %q", files(t, dir))
		}
	}
}

// Sealing, hashing and reading old segments never opens and closes a file that
// this process has open: that would drop its locks.
func TestNoLockIsDropped(t *testing.T) {
	w, dir := rotated(t, nil)
	w.goOn()
	stop := watch(func() {
		path := filepath.Join(dir, "00000002.db")
		if !lockHeld(t, path) {
			t.Errorf("the lock on %s is gone", path)
		}
	})
	waitSealed(t, w)
	time.Sleep(10 * time.Millisecond)
	stop()
	mustClose(t, w, 5000*second)
}

// The immutable flag is set when asked for, and is no obstacle to retention.
func TestImmutable(t *testing.T) {
	dir := t.TempDir()
	o := options(100 * second)
	o.Immutable = true
	w := mustOpenWriter(t, dir, o)
	mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(101 * second)}, Now: 101 * second})
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	path := filepath.Join(dir, "00000001.db")
	if err := os.Remove(path); err == nil {
		t.Skip("no immutable flag on this file system, or not for us")
	}
	if !w.expireOldest(tapelog.ExpiredSize) || tapedir.IsThere(path) {
		t.Error("it was not removed")
	}
	mustClose(t, w, 102*second)
}

func TestLimitsAreChecked(t *testing.T) {
	for _, l := range []retain.Limits{{MaxBytes: -1}, {MaxBytes: retain.MinMaxBytes - 1}, {MaxAge: -1}, {KeepFree: -1}, {KeepFreePercent: 100}, {MaxHeldBytes: -1}} {
		o := options(100 * second)
		o.Limits = l
		if _, err := OpenWriter(t.TempDir(), o); err == nil {
			t.Errorf("%+v: no error", l)
		}
	}
	var e *failure.Error
	if _, err := OpenWriter("/proc/none/tape", options(second)); !errors.As(err, &e) {
		t.Errorf("error %v", err)
	}
}
