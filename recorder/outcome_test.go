package recorder

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// outcome plays what the kernel tells of a connection.
func (s *script) outcome(of *bpf.Connect, o bpf.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Attempt, o.Cookie, o.Local = of.ID(), of.Cookie, netip.MustParseAddrPort("10.0.0.9:4000")
	s.outcomes = append(s.outcomes, o)
	s.counters.OutcomeSeen++
	s.counters.OutcomeSent++
}

func established(of *bpf.Connect, after uint64) bpf.Outcome {
	return bpf.Outcome{Kind: bpf.OutcomeEstablished, From: bpf.TCPSynSent, BootTime: of.BootTime + after, Established: of.BootTime + after, RTT: 7}
}

func closed(of *bpf.Connect, after uint64) bpf.Outcome {
	o := established(of, 1000)
	o.Kind, o.From, o.ClosedBy, o.BootTime, o.Sent, o.Received = bpf.OutcomeClosed, bpf.TCPFinWait2, bpf.ClosedByLocal, of.BootTime+after, 10, 20
	return o
}

// An outcome is in the row of its connect where that is not written yet, whichever of the two came first; later it is an
// ending. Each is counted.
func TestOutcomesFindTheirConnects(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/x", "x\x00"))
	blocking, later := connectBy(k, now), connectBy(k, now+1)
	later.Errno = 115
	src.outcome(&blocking, established(&blocking, 5000))
	src.outcome(&blocking, closed(&blocking, 9000))
	src.connect(blocking)
	src.connect(later)
	waitFor(t, "the rows", func() bool { return out.count() == 2 })
	src.outcome(&later, bpf.Outcome{Kind: bpf.OutcomeClosed, From: bpf.TCPSynSent, Errno: 111, BootTime: later.BootTime + 3000})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	var endings []store.Ending
	for _, b := range out.batches {
		endings = append(endings, b.Endings...)
	}
	row := out.rows[0]
	if row.Shape.Final != store.FinalEstablished || row.Outcome == nil || row.Outcome.Duration != 9000 || row.Outcome.Established != 1000 ||
		row.Outcome.Sent != 10 || row.Outcome.Received != 20 || row.Outcome.LocalPort != 4000 || row.Outcome.Local.Address != "10.0.0.9" ||
		row.Outcome.ClosedBy != store.ClosedByLocal || row.Outcome.RTT != 7 {
		t.Errorf("the row of the blocking connect says %+v %+v", row.Shape, row.Outcome)
	}
	if len(endings) != 1 || endings[0].Connect != later.BootTime || endings[0].Cookie != later.Cookie || endings[0].Final != 111 ||
		endings[0].Outcome.Duration != 3000 || endings[0].Outcome.Sent != store.Unmeasured {
		t.Errorf("the endings are %+v", endings)
	}
	c := out.counters
	if c["outcome_seen"] != 3 || c["outcome_stored"] != 3 || c["outcome_lost"] != 0 || c["outcome_coalesced"] != 0 {
		t.Errorf("counters %v", c)
	}
}

// While somebody floods with new addresses, what became of another's connections is told, and nobody is told what became of attempts that
// have no row.
func TestOutcomesBesideAFloodOfNames(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.names = newNames(namesInTape*1000, new(atomic.Int64))
	stop := start(t, src, out, c, Options{})
	now, victim, flood := bootNow(), key(7, 7, 1), key(2, 2, 1)
	src.process(execOf(victim, key(1, 1, 1), now, "/bin/victim", "victim\x00"), execOf(flood, key(1, 1, 1), now, "/bin/flood", "flood\x00"))
	own := connectBy(victim, now)
	src.connect(own)
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	const n = 100
	for i := range n {
		c := to(flood, now+uint64(i)+1, i)
		c.SocketFamily, c.Protocol = unix.AF_INET, protocolTCP
		if i%2 == 0 {
			src.outcome(&c, established(&c, 50))
		}
		src.connect(c)
		src.outcome(&c, closed(&c, 1000))
		if i == n/2 {
			src.outcome(&own, closed(&own, 1000))
		}
	}
	waitFor(t, "the ring to drain", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	rows := map[uint64]bool{}
	for _, r := range out.rows {
		rows[r.BootTime] = r.Count <= 1
	}
	told := false
	for _, b := range out.batches {
		for _, e := range b.Endings {
			told = told || e.Connect == own.BootTime
			if !rows[e.Connect] {
				t.Errorf("there is an ending for %d, which has no row", e.Connect-now)
			}
		}
	}
	if got := out.counters; !told || got["outcome_lost"] != 0 || got["outcome_coalesced"] == 0 || got["names_refused"] == 0 {
		t.Errorf("told: %v; counters %v", told, out.counters)
	}
}

// What a connection came to, by its last state and error: docs of the kernel's cases are in bpf/outcome.h.
func TestFinalOf(t *testing.T) {
	for name, one := range map[string]struct {
		o    bpf.Outcome
		want store.Final
		by   store.ClosedBy
	}{
		"open":             {bpf.Outcome{Kind: bpf.OutcomeEstablished, Established: 1}, store.FinalEstablished, store.ClosedByNobody},
		"aborted":          {bpf.Outcome{Kind: bpf.OutcomeClosed, From: bpf.TCPSynSent}, store.FinalAborted, store.ClosedByNobody},
		"refused":          {bpf.Outcome{Kind: bpf.OutcomeClosed, From: bpf.TCPSynSent, Errno: 111}, 111, store.ClosedByNobody},
		"we close":         {bpf.Outcome{Kind: bpf.OutcomeClosed, Established: 1, From: bpf.TCPFinWait2, ClosedBy: bpf.ClosedByLocal}, store.FinalEstablished, store.ClosedByLocal},
		"peer closes":      {bpf.Outcome{Kind: bpf.OutcomeClosed, Established: 1, From: bpf.TCPLastAck, ClosedBy: bpf.ClosedByRemote}, store.FinalEstablished, store.ClosedByRemote},
		"we reset":         {bpf.Outcome{Kind: bpf.OutcomeClosed, Established: 1, From: bpf.TCPEstablished}, 103, store.ClosedByLocal},
		"peer resets":      {bpf.Outcome{Kind: bpf.OutcomeClosed, Established: 1, From: bpf.TCPEstablished, Errno: 104}, 104, store.ClosedByRemote},
		"reset after FIN":  {bpf.Outcome{Kind: bpf.OutcomeClosed, Established: 1, From: bpf.TCPCloseWait, ClosedBy: bpf.ClosedByRemote}, 103, store.ClosedByRemote},
		"peer is silent":   {bpf.Outcome{Kind: bpf.OutcomeClosed, Established: 1, From: bpf.TCPEstablished, Errno: 110}, 110, store.ClosedByNobody},
		"silent after FIN": {bpf.Outcome{Kind: bpf.OutcomeClosed, Established: 1, From: bpf.TCPFinWait1, Errno: 110, ClosedBy: bpf.ClosedByLocal}, 110, store.ClosedByLocal},
	} {
		if got := finalOf(&one.o); got != one.want {
			t.Errorf("%s: %d, want %d", name, got, one.want)
		}
		var told store.Outcome
		newFates().tell(&told, &one.o)
		if got := told.ClosedBy; got != one.by {
			t.Errorf("%s: closed by %d, want %d", name, got, one.by)
		}
	}
}
