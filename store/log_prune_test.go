package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// slowTime has eight hours go by between any two leaves, and end in the past: what
// is younger than eight days is not pruned.
func slowTime(k *LogKeeper) {
	clocks, now := k.clocks, time.Now().AddDate(-5, 0, 0)
	var mu sync.Mutex
	k.clocks = func() (tapelog.Clocks, error) {
		c, err := clocks()
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(8 * time.Hour)
		c.Real = now.UnixNano()
		return c, err
	}
}

// The log of a tape that goes on expiring does not grow for ever, and what is left
// of it still proves what is left of the tape, from the first key on.
func TestLogIsPruned(t *testing.T) {
	s := &sealedTape{dir: filepath.Join(t.TempDir(), "tape")}
	o, k := loggedOptions(s.dir, 100*second)
	k.partLeaves = 20
	slowTime(k)
	k.o.Begun = func(key string) { s.key = key }
	k.o.Checkpoint = func(head []byte) { s.heads = append(s.heads, head) }
	w := mustOpenWriter(t, s.dir, o)
	l := newLoad(5, 5)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 10)
	stored, largest := uint64(0), int64(0)
	for range 60 {
		l.fill(conns)
		stored += 10
		b := l.batch(conns)
		b.Counters = segment.Counters{"seen": stored, "stored": stored}
		mustAppend(t, w, b)
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		waitSealed(t, w)
		if segments(w) > 9 && !w.expireOldest(tapelog.ExpiredFull) {
			t.Fatal("nothing expired")
		}
		if err := k.prune(); err != nil {
			t.Fatal(err)
		}
		largest = max(largest, logSize(t, s.dir))
	}
	mustClose(t, w, l.boot+second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	v := s.verify(t, proof.Options{Key: s.key, Head: s.lastHead()})
	if len(v.Problems) > 0 || !v.KeyMatched || !v.HeadMatched {
		t.Errorf("%s%+v", problems(v), v)
	}
	if !slices.ContainsFunc(v.Notes, func(n string) bool { return strings.Contains(n, "entries of the log were removed") }) {
		t.Errorf("nothing was pruned: %q", v.Notes)
	}
	// 180 leaves of 350 bytes would be 63,000.
	if v.Proven < 150 || largest > 45_000 {
		t.Errorf("%d leaves, and the log grew to %d bytes", v.Proven, largest)
	}
	alter(t, s.dir, v.Segments[0].Number, "UPDATE connection SET fd = 1")
	if got := problems(s.verify(t, proof.Options{})); !strings.Contains(got, "its hash is not") {
		t.Errorf("altered: %q", got)
	}
}

func logSize(t testing.TB, dir string) (sum int64) {
	t.Helper()
	for _, name := range files(t, filepath.Join(dir, tapedir.LogDir)) {
		info, err := os.Stat(filepath.Join(dir, tapedir.LogDir, name))
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

// What is pruned while much is queued is told in the order of time: a leaf that is
// older than the one before it is an alarm.
func TestPruneKeepsTheOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o, k := loggedOptions(dir, 100*second)
	k.partLeaves = 3
	slowTime(k)
	w := mustOpenWriter(t, dir, o)
	var work sync.WaitGroup
	work.Go(func() {
		for range 60 {
			k.Listen(SegmentSetAside{Segment: 1, Cause: "x"}) // queued, and written in the background
		}
	})
	work.Go(func() {
		for range 15 {
			if err := k.pruneBefore(2); err != nil { // as if all had expired
				t.Error(err)
			}
		}
	})
	for range 20 {
		k.checkpoint()
	}
	work.Wait()
	if err := k.pruneBefore(2); err != nil {
		t.Error(err)
	}
	mustClose(t, w, 110*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := tapelog.Verify(filepath.Join(dir, tapedir.LogDir), tapelog.VerifyOptions{})
	if err != nil || len(r.Findings) > 0 || r.Pruned < 10 {
		t.Errorf("%v, %+v", err, r)
	}
}
