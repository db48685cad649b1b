package recorder

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

func TestFloodIsCoalescedExactlyWhileTheDiskStalls(t *testing.T) {
	src, out := newScript(), newMemory()
	out.gate = make(chan struct{})
	c := quick()
	c.buffer = MinBuffer
	stop := start(t, src, out, c, Options{})
	now := bootNow()
	procs := []bpf.ProcessKey{key(1, 1, 1), key(2, 1, 1), key(3, 1, 1)}
	for _, k := range procs {
		src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/flood", "flood\x00"))
	}
	const n = 60_000
	want := map[uint32]uint64{}
	for i := range uint64(n) {
		k := procs[i%3]
		e := connectBy(k, now+i)
		e.FD = int32(i % 7)
		e.Cookie = i
		src.connect(e)
		want[k.Tgid]++
	}
	// The disk stalls all the while, and everything is read.
	waitFor(t, "the ring to drain", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
	<-out.entered
	close(out.gate)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if out.counters["lost"] != 0 || out.counters["coalesced"] == 0 || out.counters["seen"] != n {
		t.Errorf("counters %v", out.counters)
	}
	got := map[uint32]uint64{}
	for _, row := range out.rows {
		got[row.Task.Process.Key.Tgid] += uint64(max(row.Count, 1))
		if row.Count > 1 {
			if row.LastBootTime < row.BootTime || row.LastBootTime >= now+n || row.BootTime < now {
				t.Errorf("row from %d to %d", row.BootTime-now, row.LastBootTime-now)
			}
			if row.FD != -1 || row.Cookie != 0 {
				t.Errorf("a row of %d different attempts has fd %d and cookie %d", row.Count, row.FD, row.Cookie)
			}
		}
	}
	for tgid, n := range want {
		if got[tgid] != n {
			t.Errorf("process %d: %d attempts on the tape, want %d", tgid, got[tgid], n)
		}
	}
}

// What the ring still holds when the time for the last drain is up has been seen, and is lost. (What it does not hold somebody
// else has read: TestStolenRecords.)
func TestWhatIsLeftInTheRingIsLost(t *testing.T) {
	for name, left := range map[string]struct {
		stopWithin time.Duration
		connects   int // that are in the ring when capture ends
		lost       uint64
	}{
		"all is read": {time.Minute, 7, 0},
		"no time":     {0, 7, 7},
	} {
		t.Run(name, func(t *testing.T) {
			src, out := newScript(), newMemory()
			c := quick()
			c.stopWithin = left.stopWithin
			k := key(1, 1, 1)
			src.process(execOf(k, bpf.ProcessKey{}, bootNow(), "/bin/late", "late\x00"))
			src.onDetach = func() {
				for i := range left.connects {
					src.connect(connectBy(k, bootNow()+uint64(i)))
				}
			}
			if err := start(t, src, out, c, Options{})(); err != nil {
				t.Fatal(err)
			}
			accounted(t, out)
			if out.counters["lost_unread"] != left.lost || out.counters["lost"] != left.lost {
				t.Errorf("counters %v, want %d lost", out.counters, left.lost)
			}
			var gaps []store.Gap
			for _, g := range out.gaps {
				if g.Cause == causeUnread {
					gaps = append(gaps, g)
				}
			}
			if left.lost == 0 && len(gaps) == 0 {
				return
			}
			if len(gaps) != 1 || gaps[0].Lost != left.lost {
				t.Errorf("gaps %+v, want one of %d", gaps, left.lost)
			}
		})
	}
}

func TestEveryCounterIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range newLedger(0, 0).counters() {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/capture.md does not tell what %s counts", name)
		}
	}
}

func TestLossesInARowAreOneGap(t *testing.T) {
	const tick = 10
	l := newLedger(0, tick)
	var k bpf.Counters
	at := uint64(0)
	lose := func(ticks int, each uint64) {
		for range ticks {
			at += tick
			k.LostRing += each
			l.observe(at, k)
		}
	}
	lose(5, 3)
	written := l.gaps.take() // a batch in the middle: the same gap, to be written again when it has grown
	lose(5, 3)
	lose(3, 0)
	lose(1, 1)
	lose(3, 0)
	want := store.Gap{From: 0, To: 5 * tick, Cause: causeRing, Lost: 15, Detail: detailOf(causeRing, 0)}
	if !slices.Equal(written, []store.Gap{want}) {
		t.Errorf("first %+v, want %+v", written, want)
	}
	want.To, want.Lost = 10*tick, 30
	second := want
	second.From, second.To, second.Lost = 13*tick, 14*tick, 1
	if got := l.gaps.take(); !slices.Equal(got, []store.Gap{want, second}) {
		t.Errorf("then %+v, want %+v and %+v", got, want, second)
	}
	if l.gaps.pending() {
		t.Error("there is more")
	}
}

func TestAttemptInFlightIsWrittenThenUpdated(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/slow", "slow\x00"))
	returns, hangs, unheard := connectBy(k, now), connectBy(k, now+1), connectBy(k, now+2)
	returns.Tid, hangs.Tid, unheard.Tid = 11, 12, 13
	for _, c := range []bpf.Connect{returns, hangs, unheard} {
		src.begin(c)
	}
	waitFor(t, "rows without result", func() bool { return out.count() == 3 })
	out.mu.Lock()
	for _, row := range out.rows {
		if row.Shape.Errno != store.Unknown {
			t.Errorf("errno %d before the return", row.Shape.Errno)
		}
	}
	out.mu.Unlock()
	returns.Errno = int32(unix.ECONNREFUSED)
	src.end(returns)
	src.endUnheard(unheard)
	waitFor(t, "the update", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		i := slices.IndexFunc(out.rows, func(r store.Connection) bool { return r.BootTime == now })
		return out.rows[i].Shape.Errno == int32(unix.ECONNREFUSED)
	})
	time.Sleep(100 * time.Millisecond)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if c := out.counters; c["stored"] != 3 || c["seen"] != 3 || c["lost"] != 0 || c["updated"] != 1 || c["in_flight_stored"] != 3 {
		t.Errorf("counters %v", c)
	}
}

func TestWhatIsInFlightAtTheEndIsWritten(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.flightAge = time.Hour
	stop := start(t, src, out, c, Options{})
	k := key(1, 1, 1)
	src.begin(connectBy(k, bootNow()))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if len(out.rows) != 1 || out.rows[0].Shape.Errno != store.Unknown {
		t.Errorf("rows %+v", out.rows)
	}
}

func TestSecondIssueOfIOUringUpdatesItsRow(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/ring", "ring\x00"))
	issue := func(boot, cookie uint64, errno int32, flags bpf.ConnectFlags, host byte) bpf.Connect {
		c := connectBy(k, boot)
		c.Via, c.Cookie, c.Errno, c.Flags, c.FD = bpf.ViaIOUring, cookie, errno, flags, -1
		c.Tid = uint32(boot - now) // a request may be issued again by another thread
		c.Remote = ipv4(10, 0, 0, host, 80)
		return c
	}
	pending := int32(unix.EINPROGRESS)
	src.connect(
		issue(now+1, 7, pending, 0, 1), issue(now+2, 8, pending, 0, 1), // told apart by cookie
		issue(now+3, 8, int32(unix.ECONNREFUSED), bpf.Reissue, 1), issue(now+4, 7, 0, bpf.Reissue, 1),
		issue(now+5, 0, pending, 0, 2), issue(now+6, 0, 0, bpf.Reissue, 2), // no cookie, but only one can be meant
		issue(now+7, 0, pending, 0, 3), issue(now+8, 0, pending, 0, 3), // either could be meant: neither is
		issue(now+9, 0, 0, bpf.Reissue, 3), issue(now+10, 0, int32(unix.ECONNREFUSED), bpf.Reissue, 3),
		issue(now+11, 9, 0, bpf.Reissue, 4), // the first issue was never seen
	)
	waitFor(t, "rows", func() bool { return out.count() == 6 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	want := map[uint64]int32{1: 0, 2: int32(unix.ECONNREFUSED), 5: 0, 7: pending, 8: pending, 11: 0}
	for _, row := range out.rows {
		if errno, ok := want[row.BootTime-now]; !ok || errno != row.Shape.Errno {
			t.Errorf("row %d has errno %d", row.BootTime-now, row.Shape.Errno)
		}
	}
	if out.counters["folded"] != 5 {
		t.Errorf("folded %d", out.counters["folded"])
	}
}

func TestStoreErrorIsRetriedThenCounted(t *testing.T) {
	t.Run("passes", func(t *testing.T) {
		src, out := newScript(), newMemory()
		out.failures = 2
		stop := start(t, src, out, quick(), Options{})
		src.connect(connectBy(key(1, 1, 1), bootNow()))
		waitFor(t, "a row", func() bool { return out.count() == 1 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		accounted(t, out)
		if out.counters["lost"] != 0 {
			t.Errorf("counters %v", out.counters)
		}
	})
	t.Run("stays", func(t *testing.T) {
		src, out := newScript(), newMemory()
		out.failures = 3
		stop := start(t, src, out, quick(), Options{})
		src.lose(5)
		src.connect(connectBy(key(1, 1, 1), bootNow()), connectBy(key(1, 1, 1), bootNow()))
		for range 3 {
			<-out.entered
		}
		waitFor(t, "the loss to be told", func() bool {
			out.mu.Lock()
			defer out.mu.Unlock()
			return slices.ContainsFunc(out.gaps, func(g store.Gap) bool { return g.Cause == causeStore })
		})
		src.connect(connectBy(key(1, 1, 1), bootNow()))
		waitFor(t, "a row", func() bool { return out.count() == 1 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		accounted(t, out) // the gap of the batch that was dropped came with the next
		if c := out.counters; c["lost_store"] != 2 || c["lost_ring"] != 5 || c["stored"] != 1 {
			t.Errorf("counters %v", c)
		}
	})
	t.Run("until the end", func(t *testing.T) {
		src, out := newScript(), newMemory()
		out.failures = 3
		stop := start(t, src, out, quick(), Options{})
		src.connect(connectBy(key(1, 1, 1), bootNow()))
		for range 2 {
			<-out.entered
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		accounted(t, out)
	})
}
