package recorder

import (
	"testing"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// An error that comes back to a UDP socket is what became of its latest connect before, told by its cookie; of a socket that nobody
// remembers it is counted.
func TestErrorsFindTheirSockets(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/x", "x\x00"))
	query := connectBy(k, now)
	query.Protocol, query.Type, query.Errno = 17, 2, 0
	src.connect(query)
	waitFor(t, "the row", func() bool { return out.count() == 1 })
	other := query
	other.Cookie++
	for _, of := range []*bpf.Connect{&query, &other} {
		src.outcome(of, bpf.Outcome{Kind: bpf.OutcomeError, Errno: 111, BootTime: now + 4000})
	}
	src.mu.Lock()
	for i := range src.outcomes { // the kernel does not say whose it is
		src.outcomes[i].Attempt = bpf.ID{}
	}
	src.mu.Unlock()
	src.wake()
	waitFor(t, "the ending", func() bool { return len(out.endings()) == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if e := out.endings()[0]; e.Connect != query.BootTime || e.Cookie != query.Cookie || e.Final != 111 || e.Outcome.Duration != 4000 || e.Outcome.Sent != store.Unmeasured {
		t.Errorf("the ending is %+v %+v", e, e.Outcome)
	}
	if c := out.counters; c["outcome_seen"] != 2 || c["outcome_stored"] != 1 || c["outcome_coalesced"] != 1 {
		t.Errorf("counters %v", c)
	}
}

// One socket is connected to one peer after another: an error is about the connect before it, though later ones have been read, and also
// if that one is read later.
func TestErrorsOfASocketWithManyPeers(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/x", "x\x00"))
	var connects []bpf.Connect
	for i := range uint64(3 * mostConnects) {
		c := connectBy(k, now+1000*i)
		c.Protocol, c.Type, c.Errno, c.Cookie = 17, 2, 0, 9
		connects = append(connects, c)
	}
	refused := func(of *bpf.Connect) {
		src.outcome(of, bpf.Outcome{Kind: bpf.OutcomeError, Errno: 111, BootTime: of.BootTime + 10})
		src.mu.Lock()
		src.outcomes[len(src.outcomes)-1].Attempt = bpf.ID{}
		src.mu.Unlock()
	}
	last := len(connects) - 1
	early := connectBy(k, bootNow()+uint64(100*time.Millisecond)) // its record comes later than the error
	early.Protocol, early.Type, early.Errno, early.Cookie = 17, 2, 0, 10
	refused(&early)
	for i := range connects {
		src.connect(connects[i])
	}
	waitFor(t, "the rows", func() bool { return out.count() == len(connects) })
	refused(&connects[last-1])
	refused(&connects[last-3])
	refused(&connects[0]) // of too long ago
	src.connect(early)
	waitFor(t, "the endings", func() bool { return len(out.endings()) == 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	found := map[uint64]bool{}
	for _, e := range out.endings() {
		found[e.Connect] = true
	}
	if !found[early.BootTime] || !found[connects[last-1].BootTime] || !found[connects[last-3].BootTime] {
		t.Errorf("the endings are %+v", out.endings())
	}
	if c := out.counters; c["outcome_seen"] != 4 || c["outcome_stored"] != 3 || c["outcome_coalesced"] != 1 {
		t.Errorf("counters %v", c)
	}
}
