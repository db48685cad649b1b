package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// shortened records a tape of five segments with a log, of which retention removes the
// first three: two that were sealed, and one that was not. Segment n has n connections,
// and the first of them stands for three.
func shortened(t *testing.T) string {
	dir := t.TempDir()
	w, k, rotate := loggedWriter(t, dir, 100*second)
	seen, stored := uint64(0), uint64(0)
	for n := uint64(1); n <= 5; n++ {
		var conns []Connection
		for i := range n {
			c := newWorld().connection((100*n + i) * second)
			if i == 0 {
				c.Count, c.LastBootTime = 3, c.BootTime+1
				seen += 2
			}
			conns = append(conns, c)
			seen, stored = seen+1, stored+1
		}
		mustAppend(t, w, Batch{Connections: conns, Now: (100*n + 50) * second,
			Counters: segment.Counters{"seen": seen, "stored": stored, "coalesced": seen - stored}})
		if n == 3 { // it waits for outcomes
			w.mu.Lock()
			w.hurry = true
			w.mu.Unlock()
		}
		if n < 5 {
			rotate((100*n + 60) * second)
		}
		if n < 3 {
			waitSealed(t, w)
		}
	}
	for range 3 {
		if !w.expireOldest(tapelog.ExpiredAge) {
			t.Fatal("nothing to remove")
		}
	}
	w.mu.Lock()
	w.hurry = false
	w.mu.Unlock()
	mustCloseBoth(t, w, k, 600*second)
	return dir
}

// The log tells what retention has removed, each segment once, sealed or not.
func TestRemovals(t *testing.T) {
	dir := shortened(t)
	tape := mustOpenTape(t, dir)
	c, err := tape.Coverage()
	if err != nil {
		t.Fatal(err)
	}
	r := c.Removals()
	if r.Err != nil || r.Untold != 0 || len(r.List) != 3 {
		t.Fatalf("%+v", r)
	}
	for i, e := range r.List {
		n := i + 1
		begun := 100 // segment 1; the others where the one before was closed
		if n > 1 {
			begun = 100*n - 40
		}
		want := Removal{Segment: n, At: e.At, Cause: tapelog.ExpiredAge, From: segment.WallTime(epoch2026 + int64(begun)*int64(second)),
			To: segment.WallTime(epoch2026 + int64(100*n+50)*int64(second)), Rows: int64(n), Connects: int64(n + 2)}
		if e != want || time.Since(e.At).Abs() > time.Hour {
			t.Errorf("got  %+v\nwant %+v", e, want)
		}
	}
	got := rows(t, tape.Conn(), "SELECT segment, cause, lost, from_ns - ?, to_time, detail FROM gaps WHERE cause = 'removed' AND segment < 3 ORDER BY segment", epoch2026)
	for i, row := range got {
		n := i + 1
		want := fmt.Sprintf("%d|removed|0|%d|%s|removed by retention (age) at %s: %d connections", n, r.List[i].From.UnixNano()-epoch2026,
			stampNS(r.List[i].To.UnixNano()), r.List[i].At.UTC().Format(time.RFC3339), n+2)
		if row != want {
			t.Errorf("got  %s\nwant %s", row, want)
		}
	}
	if all := one(t, tape.Conn(), "SELECT count(*), count(*) FILTER (WHERE cause = 'removed') FROM gaps"); len(got) != 2 || all != "4|3" {
		t.Errorf("%d rows, gaps %s", len(got), all)
	}
	if got := one(t, tape.Conn(), "SELECT group_concat(cause) FROM gaps WHERE segment = 2"); got != "removed" {
		t.Errorf("of segment 2: %s", got)
	}
	tape.Bound(segment.WallTime(epoch2026+int64(110*second)), segment.WallTime(epoch2026+int64(120*second)))
	if got := one(t, tape.Conn(), "SELECT group_concat(segment) FROM gaps WHERE cause = 'removed'"); got != "1" {
		t.Errorf("in a window: %s", got)
	}
	mustBeWhole(t, dir)
	if n := mustVerify(t, dir).Expired; len(n) != 3 || n[1].Connects != 4 {
		t.Errorf("verify: %+v", n)
	}
	// One account of the run, whatever is left of it.
	checkAccount(t, c, 1+2+3+4+5+5*2)
}

// Who cannot know what was removed says so.
func TestRemovalsUnknown(t *testing.T) {
	dir := shortened(t)
	look := func(path string) Removals { return mustCover(t, path).Removals() }
	if r := look(filepath.Join(dir, tapedir.SegmentName(5))); r.Err == nil || len(r.List) > 0 {
		t.Errorf("one file: %+v", r)
	}
	if err := os.Rename(filepath.Join(dir, tapedir.LogDir), filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	if r := look(dir); r.Err == nil || len(r.List) > 0 {
		t.Errorf("without the log: %+v", r)
	}
	whole := t.TempDir()
	mustClose(t, mustOpenWriter(t, whole, options(100*second)), 110*second)
	for _, path := range []string{whole, filepath.Join(whole, tapedir.SegmentName(1))} {
		if r := look(path); r.Err != nil || len(r.List) > 0 || r.Untold > 0 {
			t.Errorf("nothing was removed: %+v", r)
		}
	}
}

// A log that was pruned, or a segment that was deleted by hand: it is not told as if
// nothing had been there.
func TestRemovalsUntold(t *testing.T) {
	dir := shortened(t)
	if err := os.Remove(filepath.Join(dir, tapedir.SegmentName(4))); err != nil {
		t.Fatal(err)
	}
	if r := mustCover(t, dir).Removals(); r.Untold != 1 || len(r.List) != 3 {
		t.Errorf("%+v", r)
	}
}

// Leaves of other kinds cost next to nothing.
func BenchmarkRemovals(b *testing.B) {
	dir := b.TempDir()
	line := (&tapelog.Leaf{Seq: 12345, Kind: tapelog.KindCheckpoint, Boot: 1 << 50, Real: 1 << 60, Segment: 12, Batches: 1234, Seen: 123456789, Stored: 123456789}).String()
	part, err := os.Create(filepath.Join(dir, "00000001.log"))
	if err != nil {
		b.Fatal(err)
	}
	for range 7 * 8640 {
		fmt.Fprintf(part, "%s sig=%088d\n", line, 0)
	}
	info, err := part.Stat()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	part.Close()
	for b.Loop() {
		if err := tapelog.Scan(dir, tapelog.KindExpiry, nil); err != nil {
			b.Fatal(err)
		}
	}
}
