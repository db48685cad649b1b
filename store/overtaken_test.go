package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// disturbance is a context that calls do when it is asked for the nth time whether it ended: a copy asks before each read.
type disturbance struct {
	context.Context
	left int
	do   func()
}

func (d *disturbance) Err() error {
	if d.left--; d.left == 0 {
		d.do()
	}
	return d.Context.Err()
}

// Whatever the recorder does to a segment between two reads of whoever copies it, the copy is the segment as it was at one
// moment.
func TestCopyIsOfOneMoment(t *testing.T) {
	for name, disturb := range map[string]func(w *Writer, more func()){
		"a commit":  func(_ *Writer, more func()) { more() },
		"a new WAL": func(w *Writer, more func()) { mustTurnWAL(t, w); more() },
		"rotations": func(w *Writer, more func()) { mustRotate(t, w); more(); mustRotate(t, w); more() },
		"sealing":   func(w *Writer, more func()) { mustRotate(t, w); more(); waitSealed(t, w) },
		"its removal": func(w *Writer, more func()) {
			mustRotate(t, w)
			waitSealed(t, w)
			more()
			w.expireOldest(tapelog.ExpiredSize)
		},
	} {
		for place := 1; copyDisturbed(t, fmt.Sprintf("%s at read %d", name, place), place, disturb); place += rounds(4, 2, 1) {
		}
	}
}

func mustRotate(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
}

// mustTurnWAL has the next commit begin the WAL anew.
func mustTurnWAL(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.seg.query(nil, "PRAGMA wal_checkpoint(RESTART)"); err != nil {
		t.Fatal(err)
	}
}

// copyDisturbed copies the active segment of a new tape and disturbs that at one read. It returns false if the copy was
// complete before.
func copyDisturbed(t *testing.T, name string, place int, disturb func(*Writer, func())) bool {
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(999 * second)
	o.Limits = retain.Limits{MaxBytes: 64 << 20} // with slots, which are used again
	w := mustOpenWriter(t, dir, o)
	l := newLoad(10, 40)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 2000)
	more := func() { l.fill(conns); mustAppend(t, w, l.batch(conns)) }
	for range 3 {
		more()
	}
	mustTurnWAL(t, w)
	more()
	met := false
	ctx := &disturbance{t.Context(), place, func() { met = true; disturb(w, more) }}
	copied, err := segment.Snapshot(ctx, w.seg.path, t.TempDir())
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(name, "removal"):
	case err != nil:
		t.Errorf("%s: %v", name, err)
	default:
		judgeCopy(t, name, copied, int64(len(conns)))
	}
	mustClose(t, w, l.boot)
	return met
}

// judgeCopy checks that a copy holds whole batches, and at least the first four.
func judgeCopy(t *testing.T, name, path string, batch int64) {
	var state []string
	err := segment.PeekAt(path, func(conn *sqlite.Conn) error {
		for _, sql := range []string{"PRAGMA integrity_check", "SELECT max(cookie) - min(cookie) + 1 - count(*) FROM connection", "SELECT count(*) % ? FROM connection", "SELECT count(*) < 4 * ? FROM connection"} {
			args := []any{batch}[:strings.Count(sql, "?")]
			if err := segment.Exec(conn, func(q *sqlite.Stmt) error { state = append(state, q.ColumnText(0)); return nil }, sql, args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || !slices.Equal(state, []string{"ok", "0", "0", "0"}) {
		t.Errorf("%s: %v, %.300q", name, err, state)
	}
}

// reopened returns a tape whose directory was changed after its files were listed.
func reopened(t *testing.T, dir string, change func()) (*Tape, error) {
	t.Helper()
	tape := &Tape{}
	t.Cleanup(func() { tape.Close() })
	if err := tape.hold(dir); err != nil {
		t.Fatal(err)
	}
	files, err := tape.find(dir, func() { tape.manifest = segment.ReadManifest(dir) })
	if err != nil {
		t.Fatal(err)
	}
	change()
	return tape, tape.prepare(t.Context(), files, t.TempDir())
}

// Retention removes segments, and others are closed and sealed, between the moment at which a reader lists the tape and
// that at which it reads them: it reads what is left, and misses nothing. A segment that somebody else took is missed.
func TestOpenedWhileTurnedOver(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(w *Writer, dir string)
		want    string // the segments that are read
		missing int    // left out
	}{
		"two removed":     {change: func(w *Writer, _ string) { w.expireOldest(tapelog.ExpiredSize); w.expireOldest(tapelog.ExpiredSize) }, want: "[3 4]"},
		"closed":          {change: func(w *Writer, _ string) { mustRotate(t, w) }, want: "[1 2 3 4]"},
		"sealed":          {change: func(w *Writer, _ string) { mustRotate(t, w); waitSealed(t, w) }, want: "[1 2 3 4]"},
		"taken by others": {change: func(_ *Writer, dir string) { os.Remove(filepath.Join(dir, tapedir.SegmentName(2))) }, want: "[1 3 4]", missing: 2},
		"all removed": {change: func(w *Writer, _ string) {
			mustRotate(t, w)
			waitSealed(t, w)
			for w.expireOldest(tapelog.ExpiredSize) {
			}
		}, want: "[]"},
	} {
		dir := filepath.Join(t.TempDir(), "tape")
		w := recordHours(t, dir, options(3600*second), 8)
		if err := os.Remove(filepath.Join(dir, segment.ManifestName)); err != nil { // else a sealed segment is not even opened
			t.Fatal(err)
		}
		tape, err := reopened(t, dir, func() { c.change(w, dir) })
		numbers := []int{}
		for _, seg := range tape.segs {
			numbers = append(numbers, seg.Info.Number)
		}
		if fmt.Sprint(numbers) != c.want || errors.Is(err, errVanished) != (len(numbers) == 0) || err != nil && len(numbers) > 0 {
			t.Errorf("%s: read %v, %v, want %s", name, numbers, err, c.want)
		}
		if left := tape.LeftOut(); len(left) != min(1, c.missing) || c.missing > 0 && filepath.Base(left[0].Path) != tapedir.SegmentName(c.missing) {
			t.Errorf("%s: left out %v", name, left)
		}
		mustClose(t, w, 9*3600*second)
	}
}

// Retention needs the room of a removed segment before its reader has finished: that it was removed is the reason, not
// damage of the tape.
func TestCutWhileRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(999*second))
	l := newLoad(10, 40)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 2000)
	for range 2 {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
		mustRotate(t, w)
	}
	waitSealed(t, w)
	tape := mustOpenTape(t, dir)
	conn := connOf(t, tape, 1)
	path := filepath.Join(dir, tapedir.SegmentName(1))
	removed := filepath.Join(t.TempDir(), "removed")
	if err := errors.Join(os.Link(path, removed), os.Remove(path), os.Truncate(removed, 0)); err != nil {
		t.Fatal(err)
	}
	err := tape.Explain(segment.Exec(conn, nil, "SELECT * FROM connection"))
	if met := tape.Damage(); !errors.Is(err, segment.ErrGone) || errors.Is(err, failure.ErrDamaged) || len(met) != 1 || !errors.Is(met[0].Err, segment.ErrGone) {
		t.Errorf("%v, %v: want that it was removed", err, met)
	}
	mustClose(t, w, l.boot)
}

// Segments are closed faster than they are sealed: a hold waits for those alone that were closed when it was asked for, and
// has those that come later when they are sealed.
func TestHoldWhileRotating(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	x, now, turns := newWorld(), 999*second, 0
	var w *Writer
	turn := func() {
		now += second
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(now)}, Now: now})
		mustRotate(t, w)
	}
	o := options(999 * second)
	o.step = func(name string) {
		if turns < 30 && name == "sealed segment named" {
			turns++
			turn()
		}
	}
	w = mustOpenWriter(t, dir, o)
	w.now = func(string) (Anchor, error) { return at(now), nil }
	turn()
	a := w.do(Request{Do: DoHold, Reason: "test"})
	if a.Error != "" || len(a.Hold.Segments) == 0 || len(a.Hold.Missing) > 0 {
		t.Errorf("hold: %+v", a)
	}
	waitSealed(t, w)
	mustClose(t, w, now)
	holds, err := tapedir.Holds(dir)
	if err != nil || len(holds) != 1 || len(holds[0].Segments) != 31 || len(a.Hold.Segments) > 25 {
		t.Errorf("%v, held %+v; at first %d segments", err, holds, len(a.Hold.Segments))
	}
}

// What is not sealed when the recorder ends, and has no room to be, waits for the next one: after the stop in the log nothing
// is removed, or verify would take it for somebody else's work.
func TestNothingExpiresAfterTheStop(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	var w *Writer
	var events []string
	var mu sync.Mutex
	told := make(chan struct{})
	o := options(999 * second)
	o.Limits = small
	o.step = func(name string) {
		if name == "sealed segment named" { // the first: the others wait
			<-told
		}
	}
	o.Events = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if events = append(events, fmt.Sprintf("%T", e)); events[len(events)-1] == "store.RunStopped" {
			w.mu.Lock()
			w.catalog.room, w.lookedAround = 1<<20, time.Now() // somebody else has filled the disk
			w.mu.Unlock()
			close(told)
		}
	}
	w = mustOpenWriter(t, dir, o)
	l := newLoad(10, 40)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 200)
	for range 9 {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
		mustRotate(t, w)
	}
	mustClose(t, w, l.boot)
	stop := slices.Index(events, "store.RunStopped")
	if stop < 0 || slices.Contains(events[stop:], "store.SegmentExpired") {
		t.Errorf("after the stop: %v", events[max(0, stop):])
	}
}
