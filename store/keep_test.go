package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// connectionsIn counts the connections of every segment file of a tape, and the
// files. It does not go by what a reader makes of the tape.
func connectionsIn(t testing.TB, dir string) (connections, segments int) {
	t.Helper()
	numbers, _, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		err := peek(filepath.Join(dir, segmentName(n)), func(conn *sqlite.Conn) error {
			return execOn(conn, func(q *sqlite.Stmt) error { connections += q.ColumnInt(0); return nil }, `SELECT count(*) FROM connection`)
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
	if closedFile(filepath.Join(dir, segmentName(1))) {
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
		_, newest, err := listSegments(dir)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, segmentName(newest)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lock := unix.Flock_t{Type: unix.F_RDLCK, Start: lockBytesStart, Len: lockBytesLen}
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
		if path := filepath.Join(dir, segmentName(n)); !closedFile(path) {
			t.Errorf("%s is not sealed", path)
		}
	}
}
