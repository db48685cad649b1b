package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/conntape/conntape/store/segment"
)

// loggedWriter begins a tape with a log, and tells the writer what time it is.
func loggedWriter(t *testing.T, dir string, boot uint64) (w *Writer, k *LogKeeper, rotateAt func(boot uint64)) {
	t.Helper()
	o, k := loggedOptions(dir, boot)
	w = mustOpenWriter(t, dir, o)
	return w, k, func(boot uint64) {
		t.Helper()
		w.now = func(string) (Anchor, error) { return at(boot), nil }
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
}

func mustCloseBoth(t *testing.T, w *Writer, k *LogKeeper, boot uint64) {
	t.Helper()
	mustClose(t, w, boot)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustCover(t *testing.T, dir string) Coverage {
	t.Helper()
	tape := mustOpenTape(t, dir)
	c, err := tape.Coverage()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checkAccount makes sure that every connect is accounted for, and that the gaps lost
// what was counted as lost.
func checkAccount(t *testing.T, c Coverage, seen uint64) {
	t.Helper()
	n := c.Counters
	if n["seen"] != seen || n["seen"] != n["stored"]+n["coalesced"]+n["lost"]+n["in_flight"] {
		t.Errorf("of %d connects: %v", seen, n)
	}
	if c.Lost.Known != n["lost"] {
		t.Errorf("the gaps lost %d, counted are %d", c.Lost.Known, n["lost"])
	}
}

func mustBeWhole(t *testing.T, dir string) {
	t.Helper()
	for _, p := range mustVerify(t, dir).Problems {
		t.Errorf("verify: %+v", p)
	}
}

// A segment can begin with connects in flight that land in it: the account of the run
// does not mind, and a loss that goes on over segments is told once.
func TestAccountOverRotations(t *testing.T) {
	dir := t.TempDir()
	w, k, rotate := loggedWriter(t, dir, 100*second)
	x := newWorld()
	gap := Gap{From: 101 * second, Cause: "ring full", Detail: "d"}
	one := func(boot, lost uint64, c segment.Counters) {
		gap.To, gap.Lost = boot, lost
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(boot)}, Now: boot, Gaps: []Gap{gap}, Counters: c})
	}
	one(102*second, 5, segment.Counters{"seen": 70, "stored": 1, "lost": 5, "in_flight": 64})
	rotate(103 * second)
	one(104*second, 5, segment.Counters{"seen": 71, "stored": 2, "lost": 5, "in_flight": 64})
	rotate(105 * second)
	one(106*second, 60, segment.Counters{"seen": 80, "stored": 3, "lost": 60, "in_flight": 17})
	one(107*second, 77, segment.Counters{"seen": 80, "stored": 4, "lost": 76, "in_flight": 0, "recovered": 1})
	waitSealed(t, w)
	k.checkpoint()
	mustCloseBoth(t, w, k, 108*second)

	c := mustCover(t, dir)
	if c.Lost.Known != 77 {
		t.Errorf("the gaps lost %d, want 77", c.Lost.Known)
	}
	c.Lost.Known-- // the record that was lost had its row
	checkAccount(t, c, 80)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT segment, (from_ns - ?) / 1000000000, (to_ns - ?) / 1000000000, lost FROM gaps WHERE cause = 'ring full' ORDER BY segment", epoch2026, epoch2026)
	if want := []string{"1|101|102|5", "2|103|104|0", "3|105|107|72"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
	mustBeWhole(t, dir)
}

// verify finds a loss that is told twice, one that is told nowhere, and a run whose
// account does not go on where it stood.
func TestVerifyAccounts(t *testing.T) {
	for name, c := range map[string]struct{ sql, want string }{
		"repeated":  {"INSERT INTO gap (from_ns, to_ns, cause, lost) SELECT created_ns, created_ns, 'ring full', 5 FROM segment", "a loss is told more than once"},
		"untold":    {"UPDATE gap SET lost = 0", "its gaps tell of 0"},
		"forgotten": {"UPDATE counter SET first = 0 WHERE name = 'seen'; UPDATE counter SET first = 0 WHERE name = 'stored'", "was 10 at the end of 00000001.db"},
		"unknown":   {"UPDATE gap SET lost = NULL", "its gaps tell of 0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w, k, rotate := loggedWriter(t, dir, 100*second)
			x := newWorld()
			gap := Gap{From: 101 * second, To: 102 * second, Cause: "ring full", Lost: 9}
			mustAppend(t, w, Batch{Connections: []Connection{x.connection(102 * second)}, Gaps: []Gap{gap}, Now: 102 * second,
				Counters: segment.Counters{"seen": 10, "stored": 1, "lost": 9}})
			rotate(103 * second)
			gap.To, gap.Lost = 104*second, 14
			mustAppend(t, w, Batch{Connections: []Connection{x.connection(104 * second)}, Gaps: []Gap{gap}, Now: 104 * second,
				Counters: segment.Counters{"seen": 16, "stored": 2, "lost": 14}})
			waitSealed(t, w)
			mustCloseBoth(t, w, k, 105*second)
			mustBeWhole(t, dir)
			alter(t, dir, 2, c.sql)
			if got := problems(mustVerify(t, dir)); !strings.Contains(got, c.want) {
				t.Errorf("found\n%s\nwant %s", got, c.want)
			}
		})
	}
}

// kill -9 just after a rotation: what was in flight when the segment began is lost, and
// said to be.
func TestKillAfterRotation(t *testing.T) {
	w, k, rotate := loggedWriter(t, t.TempDir(), 100*second)
	x := newWorld()
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(101 * second)}, Now: 102 * second,
		Counters: segment.Counters{"seen": 3850, "stored": 1, "in_flight": 3849}})
	rotate(103 * second)
	waitSealed(t, w)
	dir := crashWithLog(t, w, k)
	mustCloseBoth(t, w, k, 104*second)

	w, k, _ = loggedWriter(t, dir, 110*second)
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(111 * second)}, Now: 112 * second, Counters: segment.Counters{"seen": 1, "stored": 1}})
	mustCloseBoth(t, w, k, 113*second)
	c := mustCover(t, dir)
	checkAccount(t, c, 3851)
	if c.Counters["lost"] != 3849 || !c.Lost.Unknown {
		t.Errorf("lost %+v", c.Lost)
	}
	mustBeWhole(t, dir)
}

// kill -9 before anything was counted: nobody knows what was lost.
func TestKillLosesUnknownNumber(t *testing.T) {
	w := mustOpenWriter(t, t.TempDir(), options(100*second))
	dir := crash(t, w)
	mustClose(t, mustOpenWriter(t, dir, options(110*second)), 111*second)
	if c := mustCover(t, dir); c.Lost != (Loss{Unknown: true}) {
		t.Errorf("lost %+v", c.Lost)
	}
}

// Since when a recorder runs does not depend on the segment that it is at, nor on the
// clock being set meanwhile.
func TestSinceOverRotations(t *testing.T) {
	dir := t.TempDir()
	w, k, rotate := loggedWriter(t, dir, 100*second)
	rotate(103 * second)
	w.now = func(string) (Anchor, error) {
		a := at(105 * second)
		a.Real += int64(3600 * second)
		return a, nil
	}
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustCloseBoth(t, w, k, 106*second)
	var runs segment.Recorders
	for _, seg := range mustOpenTape(t, dir).segs {
		runs.Add(seg.Runs)
	}
	if len(runs) != 1 || runs[0].Start != epoch2026+int64(100*second) {
		t.Errorf("%d runs: %+v", len(runs), runs)
	}
}

// Updates of rows that are nowhere are counted for the run.
func TestMissedUpdatesOverRotations(t *testing.T) {
	dir := t.TempDir()
	w, k, rotate := loggedWriter(t, dir, 100*second)
	missed := newWorld().connection(101 * second)
	missed.Update = true
	mustAppend(t, w, Batch{Connections: []Connection{missed}, Counters: segment.Counters{"seen": 0}})
	mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(102 * second)}, Counters: segment.Counters{"seen": 1, "stored": 1}})
	rotate(103 * second)
	mustAppend(t, w, Batch{Connections: []Connection{missed}})
	mustAppend(t, w, Batch{Now: 105 * second})
	waitSealed(t, w)
	mustCloseBoth(t, w, k, 106*second)
	if n := mustCover(t, dir).Counters[missedUpdatesCounter]; n != 2 {
		t.Errorf("%d, want 2", n)
	}
}
