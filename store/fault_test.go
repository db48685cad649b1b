package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// playBatches writes a number of batches and stops cleanly. Arguments: directory,
// batches, rows a batch, limit of the size of a file in bytes (0 none).
func playBatches(args []string) error {
	runtime.LockOSThread() // strace counts the calls of each thread
	var n [3]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(args[i+1]); err != nil {
			return err
		}
	}
	if n[2] > 0 {
		signal.Ignore(syscall.SIGXFSZ) // write then fails with EFBIG
		limit := unix.Rlimit{Cur: uint64(n[2]), Max: uint64(n[2])}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
	}
	w, err := OpenWriter(args[0], options(999*second))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	l := newLoad(20, 50)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, n[1])
	for range n[0] {
		l.fill(conns)
		err := w.Append(l.batch(conns))
		for try := 0; err != nil && try < 3; try++ { // nothing of it was written
			err = w.Append(l.batch(conns))
		}
		if err != nil {
			return err
		}
	}
	if err := w.Close(Gap{From: l.boot + second}, segment.Counters{"seen": l.n, "stored": l.n}); err != nil {
		return err
	}
	fmt.Println("done", l.n)
	return nil
}

// Writes that fail: each file that gave an error is left, its batch is in the
// next one, once, and a gap says why.
func TestWriteFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	out, err := childCommand(t, "batches", dir, "40", "300", "300000").Output()
	if err != nil || string(out) != "done 12000\n" {
		t.Fatalf("%q, %v", out, err)
	}
	if stored := checkWhole(t, dir); stored != 12000 {
		t.Errorf("%d rows", stored)
	}
	tape := mustOpenTape(t, dir)
	segments := len(tape.Segments())
	if segments < 2 {
		t.Fatalf("%d segments: nothing failed", segments)
	}
	got := rows(t, tape.Conn(), "SELECT segment, from_ns = to_ns, lost, detail FROM gaps WHERE cause = 'storage' ORDER BY segment")
	if len(got) != segments-1 || !strings.HasPrefix(got[0], "2|1|0|00000001.db was set aside: ") || !strings.Contains(got[0], "I/O error") {
		t.Errorf("gaps: %q", got)
	}
	if n := one(t, tape.Conn(), "SELECT count(*) FROM (SELECT cookie FROM connections GROUP BY 1 HAVING count(*) > 1)"); n != "0" {
		t.Errorf("%s connections are there twice", n)
	}
}

// An fsync that fails after the commit was written: the rows are in both files,
// and are read once. Every sync in turn.
func TestSyncFails(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	moved, twice := 0, 0
	first, last := 1, 22
	if testing.Short() {
		first, last = 8, 13 // before it is begun, and then when it takes batches
	}
	for k := first; k <= last; k++ {
		dir := filepath.Join(t.TempDir(), "tape")
		child := childCommand(t, "batches", dir, "8", "300", "0")
		cmd := exec.Command(strace, append([]string{"-f", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync",
			"-e", fmt.Sprintf("inject=fsync,fdatasync:error=EIO:when=%d", k)}, child.Args...)...)
		cmd.Env = child.Env
		out, err := cmd.Output()
		if err != nil {
			if !strings.Contains(string(out), "error: ") {
				t.Skipf("strace does not work here: %q %v", out, err)
			}
			if strings.Contains(string(out), "error: open") {
				continue // the tape could not be begun: said, and nothing promised
			}
			if !strings.Contains(string(out), "close segment") { // then all is on the disk, in the WAL
				t.Fatalf("sync %d: %q", k, out)
			}
		}
		if stored := checkWhole(t, dir); stored != 2400 {
			t.Errorf("sync %d: %d rows", k, stored)
		}
		tape := mustOpenTape(t, dir)
		if len(tape.segs) > 1 {
			moved++
			limit := tape.segs[1].Counts
			raw, err := segment.SnapshotUpTo(t.Context(), tape.segs[0].Info.Path, t.TempDir(), -1)
			if err != nil {
				t.Fatal(err)
			}
			var all segment.Segment
			if err := segment.PeekAt(raw, all.Describe); err != nil {
				t.Fatal(err)
			}
			if all.Batches > limit {
				twice++
			}
		}
		tape.Close()
	}
	t.Logf("%d times a segment was set aside, %d times with a commit that does not count", moved, twice)
	if moved == 0 || twice == 0 {
		t.Error("the case was never met")
	}
}

// The same without strace: a commit that was reported as failed is not read.
func TestCommitThatDoesNotCount(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	a, b := Batch{Connections: []Connection{x.connection(101 * second)}}, Batch{Connections: []Connection{x.connection(102 * second)}}
	mustAppend(t, w, a)
	mustAppend(t, w, b)
	w.now = func(string) (Anchor, error) { return at(103 * second), nil }
	w.seg.batches-- // as if the second had failed
	cause := errors.New("sync failed")
	w.setAside(cause)
	if err := w.moveOn(&b, segment.StateActive, cause); err != nil {
		t.Fatal(err)
	}
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT segment, time FROM connections ORDER BY id")
	if want := []string{"1|2026-01-01T00:01:41.000000000Z", "2|2026-01-01T00:01:42.000000000Z"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Nor is it when other recorders come and seal what they find: the segment that was
// set aside stays as it is, whether the one after it is active, closed or sealed.
func TestCommitThatDoesNotCountLater(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	w.now = func(string) (Anchor, error) { return at(103 * second), nil }
	x := newWorld()
	a, b := Batch{Connections: []Connection{x.connection(101 * second)}}, Batch{Connections: []Connection{x.connection(102 * second)}}
	mustAppend(t, w, a)
	mustAppend(t, w, b)
	w.seg.batches-- // as if the second had failed
	cause := errors.New("sync failed")
	w.setAside(cause)
	if err := w.moveOn(&b, segment.StateActive, cause); err != nil {
		t.Fatal(err)
	}
	dir = crash(t, w)
	before := hashOfFile(t, filepath.Join(dir, "00000001.db"))
	for i := range uint64(3) {
		w = mustOpenWriter(t, dir, options((110+10*i)*second))
		w.now = func(string) (Anchor, error) { return at((111 + 10*i) * second), nil }
		mustAppend(t, w, Batch{Connections: []Connection{x.connection((112 + 10*i) * second)}})
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		if i > 0 { // the first time it is killed while the second segment waits to be sealed
			waitSealed(t, w)
		}
		dir = crash(t, w)
		got := one(t, mustOpenTape(t, dir).Conn(), "SELECT count(*), count(DISTINCT time_ns) FROM connections")
		if want := fmt.Sprintf("%d|%d", 3+i, 3+i); got != want {
			t.Errorf("recorder %d: %s connections, want %s", i, got, want)
		}
		if tapedir.ClosedFile(filepath.Join(dir, "00000001.db")) || hashOfFile(t, filepath.Join(dir, "00000001.db")) != before {
			t.Errorf("recorder %d touched the segment that was set aside", i)
		}
	}
}

// A disk that others have filled, when there is nothing to give up: the batch fails
// with a hint, nothing is left half done, and with room again recording goes on.
func TestFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1500k"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	dir := filepath.Join(mount, "tape")
	w := mustOpenWriter(t, dir, options(999*second))
	ballast := filepath.Join(mount, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2_000_000), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	l := newLoad(20, 50)
	conns := make([]Connection, 1000)
	stored := 0
	for range 100 {
		l.fill(conns)
		if err := w.Append(l.batch(conns)); err != nil {
			if failure.HintOf(err) == "" || !strings.Contains(failure.HintOf(err), "full") {
				t.Errorf("no hint: %v", err)
			}
			break
		}
		stored += len(conns)
	}
	if stored == 100_000 {
		t.Fatalf("the disk did not fill: %d rows", stored)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	b := l.batch(conns)
	b.Counters = segment.Counters{"stored": uint64(stored + len(conns))}
	mustAppend(t, w, b)
	if names := files(t, dir); !slices.Equal(names, []string{"00000001.db", "00000001.db-wal", "lock"}) {
		t.Errorf("files: %v", names)
	}
	mustClose(t, w, l.boot)
	if got := checkWhole(t, dir); got != uint64(stored+len(conns)) {
		t.Errorf("%d rows, want %d", got, stored+len(conns))
	}
}

// A recorder that starts on a full disk makes room for itself, and says so.
func TestStartOnFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	dir := filepath.Join(mount, "tape")
	w := mustOpenWriter(t, dir, options(999*second))
	l := newLoad(20, 50)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 30_000)
	for range 3 {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		waitSealed(t, w)
	}
	mustClose(t, w, l.boot)
	if err := os.WriteFile(filepath.Join(mount, "ballast"), make([]byte, 8<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	h := &heard{}
	o := options(l.boot + second)
	o.Events = h.listen
	w = mustOpenWriter(t, dir, o)
	mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(l.boot + 2*second)}, Now: l.boot + 2*second})
	mustClose(t, w, l.boot+3*second)
	if len(h.lines) < 3 || h.lines[0] != "RunStarted 4" || !strings.HasPrefix(h.lines[1], "SegmentExpired ") || !strings.HasSuffix(h.lines[1], ".db: full") {
		t.Errorf("events: %q", h.lines)
	}
	if got := one(t, mustOpenTape(t, dir).Conn(), "SELECT count(*) > 0 FROM gaps WHERE cause = 'full' AND to_ns > from_ns"); got != "1" {
		t.Error("no gap tells what was removed")
	}
}

// segments is the number of segments that are not active.
func segments(w *Writer) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.catalog.list)
}

// turnBatch is the number of connections in each batch of playTurn.
const turnBatch = 200

// playTurn records under limits that make it close, seal and remove segments,
// asks for a rotation and a hold meanwhile, and stops. A batch that is refused is
// tried again, as the recorder does. It says on stderr, which is no file of the
// tape, how many connections are safe. Arguments: directory, batches.
func playTurn(args []string) error {
	runtime.LockOSThread() // strace counts the calls of each thread
	batches, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	o := options(0)
	o.Now = Anchor{}
	o.Limits = retain.Limits{MaxBytes: retain.MinMaxBytes, Reserve: true}
	w, err := OpenWriter(args[0], o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	l := newLoad(10, 40)
	now, err := ReadAnchor("")
	if err != nil {
		return err
	}
	l.boot = now.Boot
	l.n = uint64(now.Boot / 1000) // cookies go on where the last recorder ended, or later
	first := l.n
	conns := make([]Connection, turnBatch)
	for i := range batches {
		l.fill(conns)
		b := l.batch(conns)
		b.Counters = segment.Counters{"seen": l.n - first, "stored": l.n - first}
		err := w.Append(b)
		for try := 0; err != nil && try < 3; try++ {
			err = w.Append(b)
		}
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		fmt.Fprintln(os.Stderr, first+100_001, l.n+100_000)
		if i%4 == 3 {
			w.Rotate() // that it fails is no harm
			for segments(w) > 7 && w.expireOldest(tapelog.ExpiredSize) {
			}
		}
		if i == 6 {
			w.hold(Request{Reason: "x"})
		}
	}
	return w.Close(Gap{}, nil)
}
