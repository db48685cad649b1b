package recorder

import (
	"testing"

	"github.com/conntape/conntape/bpf"
)

// follower is a recorder that a test drives by hand, with one process.
func follower(t *testing.T) (*recorder, *script, bpf.ProcessKey) {
	src, k := newScript(), key(1, 1, 1)
	r := newRecorder(src, newMemory(), configOf(Options{}), hostFiles{passwd: t.TempDir() + "/none"})
	r.table.apply(ptr(execOf(k, bpf.ProcessKey{}, 1, "/bin/x", "x\x00")))
	return r, src, k
}

// What came after the connects that were read waits in the rings, but for the first of each: so outcomes do not run ahead of
// their connects.
func TestFollowReadsUpToATime(t *testing.T) {
	r, src, k := follower(t)
	for _, at := range []uint64{1000, 2000, 3000, 4000} {
		c := connectBy(k, at)
		src.outcome(&c, established(&c, 10))
		src.accept(k, at+20, "192.0.2.1:40000")
		if at <= 2000 {
			r.take(&c)
		}
	}
	if err := r.follow(2500); err != nil {
		t.Fatal(err)
	}
	if len(src.outcomes) != 1 || len(src.events) != 1 || len(r.fates.pending) != 1 || r.ledger.outcomes.stored != 2 {
		t.Errorf("%d outcomes and %d events left, %d outcomes wait, %d in rows", len(src.outcomes), len(src.events), len(r.fates.pending), r.ledger.outcomes.stored)
	}
}

// An end finds its accepted connection though the event of that is behind one that came later, on another CPU.
func TestEndsFindEventsOutOfOrder(t *testing.T) {
	r, src, k := follower(t)
	src.accept(k, 9000, "192.0.2.1:40001")
	first := src.accept(k, 1000, "192.0.2.1:40000")
	src.over(first, 0, 10, 20) // at 6000
	if err := r.follow(7000); err != nil {
		t.Fatal(err)
	}
	for f := range r.inbound.fresh {
		if f.Count != 2 || f.Ended != 1 || f.Sent != 10 || f.Received != 20 {
			t.Errorf("%d accepted, %d ended, %d bytes sent, %d received", f.Count, f.Ended, f.Sent, f.Received)
		}
	}
	if len(r.inbound.fresh) != 1 || len(r.inbound.awaited) != 1 {
		t.Errorf("%d folds to write, %d connections not ended", len(r.inbound.fresh), len(r.inbound.awaited))
	}
}

// The next recorder reads outcomes from where none waited: as soon as the connect of the last one that did is read, not from the
// look at the ring before that.
func TestOutcomesAreMarkedWhenNoneWaits(t *testing.T) {
	r, src, k := follower(t)
	r.heritage = &left{script: src}
	first, second := connectBy(k, 1000), connectBy(k, 2000)
	for _, c := range []*bpf.Connect{&first, &second} {
		src.outcome(c, established(c, 10))
	}
	if err := r.drainOutcomes(5000, forever); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		connect *bpf.Connect
		marked  uint64
	}{{&first, 0}, {&second, 2}} {
		r.take(one.connect)
		if r.fates.mark.Records != one.marked {
			t.Errorf("%d outcomes are before the mark, want %d", r.fates.mark.Records, one.marked)
		}
	}
}
