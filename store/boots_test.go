package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// bootNumber is a faked boot id.
func bootNumber(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// inBoot describes a recorder that starts 5 s after the n-th boot of the host, which
// is at wall seconds of the wall clock of the tests.
func inBoot(n int, wall uint64) WriterOptions {
	o := options(0)
	o.BootID = bootNumber(n)
	o.Now = Anchor{Boot: 5 * second, Real: epoch2026 + int64((wall+5)*second)}
	return o
}

// bootWall is when a boot begins in these tests: forwards, but for every fourth, whose
// clock is an hour behind.
func bootWall(n int) uint64 {
	wall := 10_000 + uint64(n)*100
	if n%4 == 3 {
		wall -= 3600
	}
	return wall
}

// recordBoots records one connect in each of so many boots of the host, each with its own
// log keeper, and returns the tape. How a boot ends alternates: a clean stop, or a kill.
func recordBoots(t *testing.T, boots int) string {
	dir := t.TempDir()
	for n := range boots {
		o := inBoot(n, bootWall(n))
		k := testKeeper(t, dir, &o)
		w := mustOpenWriter(t, dir, o)
		x := newWorld()
		c := x.connection(6 * second)
		c.Cookie = uint64(n + 1)
		mustAppend(t, w, Batch{Connections: []Connection{c}, Now: 7 * second, Counters: segment.Counters{"seen": 1, "stored": 1}})
		k.checkpoint()
		if n%2 == 0 {
			mustClose(t, w, 8*second)
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		left := crashWithLog(t, w, k)
		mustClose(t, w, 9*second)
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		dir = left
	}
	return dir
}

// Restarts of the host cost no segment and no order: all rows are in one segment, later
// boots after earlier ones, each process with the start that its own boot gives it.
func TestManyBoots(t *testing.T) {
	const boots = 25
	dir := recordBoots(t, boots)
	tape := mustOpenTape(t, dir)
	if got := one(t, tape.Conn(), "SELECT count(*), max(boots), max(runs) FROM segments"); got != fmt.Sprintf("1|%d|%d", boots, boots) {
		t.Errorf("segments, boots, runs: %s", got)
	}
	got := rows(t, tape.Conn(), `SELECT c.cookie, c.time, p.start_time, p.boot_id FROM connections c JOIN processes p USING (process_id) ORDER BY c.time_ns`)
	if len(got) != boots {
		t.Fatalf("%d connections", len(got))
	}
	for n, row := range got {
		began := epoch2026 + int64(bootWall(n)*second)
		want := fmt.Sprintf("%d|%s|%s|%s", n+1, stampNS(began+int64(6*second)), stampNS(began+900), bootNumber(n))
		if row != want {
			t.Errorf("boot %d: got %s, want %s", n, row, want)
		}
	}
	if got := one(t, tape.Conn(), "SELECT count(*) FROM gaps WHERE cause IN ('stopped', 'crash') AND to_ns IS NOT NULL"); got != itoa(boots-1) {
		t.Errorf("%s gaps between %d boots", got, boots)
	}
	tape.Close()
	v := mustVerify(t, dir)
	for _, p := range v.Problems {
		t.Errorf("verify: %+v", p)
	}
}

// A clock that was far ahead in one boot is not handed on by the boots after it.
func TestClockAheadEnds(t *testing.T) {
	dir := t.TempDir()
	const year = 365 * 24 * 3600
	w := mustOpenWriter(t, dir, inBoot(0, 70*year))
	mustClose(t, w, 8*second)
	for n := range 2 { // two recorders of the boot: the second finds what the first wrote
		o := inBoot(1, 1000)
		o.Now.Boot += uint64(n) * 10 * second
		o.Now.Real += int64(uint64(n) * 10 * second)
		w = mustOpenWriter(t, dir, o)
		mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(o.Now.Boot + second)}, Now: o.Now.Boot + 2*second})
		if n == 0 {
			mustClose(t, w, o.Now.Boot+3*second)
		}
	}
	w.now = func(kind string) (Anchor, error) {
		return Anchor{Boot: 30 * second, Real: epoch2026 + int64(1030*second), Kind: kind}, nil
	}
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(31 * second)}, Now: 32 * second})
	waitSealed(t, w)
	mustClose(t, w, 33*second)
	tape := mustOpenTape(t, dir)
	got := one(t, tape.Conn(), "SELECT time, time_ns - ? FROM connections WHERE segment = 2", epoch2026)
	if want := fmt.Sprintf("%s|%d", stampNS(epoch2026+int64(1031*second)), 1031*second); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := one(t, tape.Conn(), "SELECT min(time) FROM connections WHERE segment = 1"); got != stampNS(epoch2026+int64(1006*second)) {
		t.Errorf("first time of the second boot: %s", got)
	}
}

// The tape of another host is not gone on with in its segment.
func TestOtherHost(t *testing.T) {
	for name, change := range map[string]func(*WriterOptions){
		"host":    func(o *WriterOptions) { o.Host = "other" },
		"machine": func(o *WriterOptions) { o.MachineID = "other" },
	} {
		dir := t.TempDir()
		mustClose(t, mustOpenWriter(t, dir, options(100*second)), 110*second)
		o := options(120 * second)
		change(&o)
		w := mustOpenWriter(t, dir, o)
		if n, _ := w.Segment(); n != 2 {
			t.Errorf("another %s: segment %d, want 2", name, n)
		}
		mustClose(t, w, 130*second)
	}
}

func stampNS(ns int64) string {
	return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// testKeeper makes the log keeper of a recorder whose clocks the test makes up.
func testKeeper(t *testing.T, dir string, o *WriterOptions) *LogKeeper {
	t.Helper()
	k := newLogKeeper(dir, LogOptions{Host: o.Host, MachineID: o.MachineID, BootID: o.BootID,
		Version: o.Version, Backend: o.Backend, BlindSpots: o.BlindSpots}, time.Hour)
	now := *o
	k.clocks = func() (tapelog.Clocks, error) {
		return tapelog.Clocks{Boot: now.Now.Boot + 2*second, Real: now.Now.Real + int64(2*second)}, nil
	}
	o.Events = k.Listen
	return k
}

// crashWithLog is crash for a tape with a log.
func crashWithLog(t *testing.T, w *Writer, k *LogKeeper) string {
	t.Helper()
	k.flush()
	left := crash(t, w)
	if err := os.CopyFS(filepath.Join(left, tapedir.LogDir), os.DirFS(filepath.Join(w.dir, tapedir.LogDir))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(left, tapedir.LogDir, "key"), 0o600); err != nil {
		t.Fatal(err)
	}
	return left
}

func mustVerify(t *testing.T, dir string) *proof.Verification {
	t.Helper()
	v, err := proof.Verify(context.Background(), dir, proof.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
