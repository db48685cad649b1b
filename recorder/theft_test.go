package recorder

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// gapsOf returns what the tape says of one cause.
func gapsOf(out *memory, cause string) (found []store.Gap) {
	out.mu.Lock()
	defer out.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(out.gaps), func(g store.Gap) bool { return g.Cause != cause })
}

// TestStolenRecords: a record that the kernel has put into the ring, and that is not there any more although we did not read
// it, was read by somebody else. That is a gap with its number, while recording goes on and also at its end.
func TestStolenRecords(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	for i := range uint64(10) {
		src.connect(connectBy(key(1, 1, 1), now+i))
	}
	src.steal(3)
	waitFor(t, "a gap", func() bool { return len(gapsOf(out, segment.CauseStolen)) > 0 })
	if g := gapsOf(out, segment.CauseStolen)[0]; g.Lost != 3 || g.From >= g.To || !strings.Contains(g.Detail, "open in pid 7 (thief)") {
		t.Errorf("%+v", g)
	}
	src.connect(connectBy(key(1, 1, 1), bootNow()))
	src.onDetach = func() { src.steal(2) }
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if c := out.counters; c["lost_stolen"] != 5 || c["lost_unread"] != 0 {
		t.Errorf("counters %v", c)
	}
}

// TestStolenUnderTraffic: while records come all the time, so that the ring is never empty, a theft is seen but for as many
// records as the ring holds.
func TestStolenUnderTraffic(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	src.endless = true
	src.connect(connectBy(key(1, 1, 1), bootNow()), connectBy(key(1, 1, 1), bootNow()))
	stop := start(t, src, out, c, Options{})
	src.mu.Lock()
	src.counters.Seen, src.counters.Sent = src.counters.Seen+9, src.counters.Sent+9 // they came and went
	src.mu.Unlock()
	waitFor(t, "a gap", func() bool { return len(gapsOf(out, segment.CauseStolen)) > 0 })
	if g := gapsOf(out, segment.CauseStolen)[0]; g.Lost < 7 || g.Lost > 9 {
		t.Errorf("%+v", g)
	}
	src.mu.Lock()
	src.endless = false
	src.mu.Unlock()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if c := out.counters; c["lost_stolen"] != 9 {
		t.Errorf("counters %v", c)
	}
}

// TestStolenReturn: an attempt whose row was written while it was in flight is not lost when the record of its return is stolen.
func TestStolenReturn(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	c := connectBy(key(1, 1, 1), bootNow())
	src.begin(c)
	waitFor(t, "its row", func() bool { return out.count() == 1 })
	src.endStolen(c)
	waitFor(t, "the theft", func() bool { return len(gapsOf(out, segment.CauseStolen)) > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
}

// TestStolenDescriptions: what the kernel said of processes is missed as well, and looked for again.
func TestStolenDescriptions(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	waitFor(t, "the first walk", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return src.walks > 0 })
	src.mu.Lock()
	src.counters.ProcessSeen, src.counters.ProcessSent = src.counters.ProcessSeen+4, src.counters.ProcessSent+4
	walks := src.walks
	src.mu.Unlock()
	waitFor(t, "a gap", func() bool { return len(gapsOf(out, segment.CauseProcessesStolen)) > 0 })
	waitFor(t, "two walks", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return src.walks >= walks+2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if g := gapsOf(out, segment.CauseProcessesStolen)[0]; g.Lost != 0 || !strings.HasPrefix(g.Detail, "4 process descriptions") {
		t.Errorf("%+v", g)
	}
}

// TestNothingStolen: while records come all the time, nobody is accused.
func TestNothingStolen(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.tick = time.Millisecond
	stop := start(t, src, out, c, Options{})
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		src.connect(connectBy(key(1, 1, 1), bootNow()), connectBy(key(2, 1, 1), bootNow()))
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if g := gapsOf(out, segment.CauseStolen); len(g) > 0 {
		t.Errorf("%+v", g)
	}
	accounted(t, out)
}

// TestProbeStolen: a probe whose record somebody else has read accuses no hook.
func TestProbeStolen(t *testing.T) {
	r := newRecorder(newScript(), newMemory(), quick(), hostFiles{proc: procOf(t), passwd: "/etc/passwd"})
	now := r.boot()
	r.watch.await([]bpf.Probe{{Cookie: 7}}, now, 0)
	r.ledger.steal(now, now+1, 1, nil)
	r.horizon = now + uint64(time.Minute)
	if err := r.missProbes(r.horizon, bpf.Counters{}); err != nil {
		t.Error(err)
	}
}
