package recorder

import (
	"errors"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// load is a recorder with processes in its table, and the records of n connects of theirs.
func load(tb testing.TB, n int) (*recorder, []bpf.Connect) {
	tb.Helper()
	src := newScript()
	r := newRecorder(src, newMemory(), configOf(Options{Buffer: 1 << 40}), hostFiles{passwd: filepath.Join(tb.TempDir(), "none")})
	const processes = 500
	for i := range uint32(processes) {
		r.table.apply(ptr(execOf(key(i+1, uint64(i), 1), bpf.ProcessKey{}, 1, "/bin/x", "x\x00")))
	}
	list := make([]bpf.Connect, n)
	for i := range list {
		p := uint32(i % processes)
		c := connectBy(key(p+1, uint64(p), 1), uint64(i))
		c.Remote = ipv4(10, 0, byte(i>>8%20), byte(i), uint16(i%5))
		list[i] = c
	}
	return r, list
}

// BenchmarkResolve is what draining does with each record of a known thread to a known address: find both, make the
// row, queue it. The kernel's ring is not in it.
func BenchmarkResolve(b *testing.B) {
	r, list := load(b, 5000)
	rows := make([]store.Connection, 0, 100_000)
	r.queue.open.Connections = rows
	for i := range list {
		r.take(&list[i])
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if len(r.queue.open.Connections) == cap(rows) {
			r.queue.open.Connections = rows[:0]
		}
		r.take(&list[i%len(list)])
	}
}

// BenchmarkCoalesce is the same when memory is tight.
func BenchmarkCoalesce(b *testing.B) {
	r, list := load(b, 5000)
	r.queue.shares.all.bound = 1 << 30
	r.queue.shares.all.used = 1<<29 + 1
	for i := range list {
		r.take(&list[i])
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		r.take(&list[i%len(list)])
	}
}

// BenchmarkNewAddress is a scan: every address is a new one.
func BenchmarkNewAddress(b *testing.B) {
	r, list := load(b, 1)
	rows := make([]store.Connection, 0, 100_000)
	r.queue.open.Connections = rows
	c := list[0]
	b.ReportAllocs()
	for i := range b.N {
		if len(r.queue.open.Connections) == cap(rows) {
			r.queue.open.Connections = rows[:0]
		}
		copy(c.Remote[4:], []byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		r.take(&c)
	}
}

// BenchmarkTCPConnection is what draining does with whole TCP connections within the host, of which 4,000 are in the rings at each
// look: the connect, its outcome, the accept, and both ends. The rings are not in it.
func BenchmarkTCPConnection(b *testing.B) {
	const each = 4000
	src := newScript()
	src.failure = errors.New("the ring is empty")
	c := configOf(Options{Buffer: 1 << 40})
	c.batchAge, c.batchRows, c.heartbeat = time.Hour, math.MaxInt, time.Hour
	r := newRecorder(src, newMemory(), c, hostFiles{passwd: filepath.Join(b.TempDir(), "none")})
	k, at := key(1, 1, 1), bootNow()
	r.table.apply(ptr(execOf(k, bpf.ProcessKey{}, 1, "/bin/x", "x\x00")))
	connects, accepts, outcomes := make([]bpf.Connect, each), make([]bpf.Connect, each), make([]bpf.Outcome, 3*each)
	r.queue.open.Connections = make([]store.Connection, 0, 5*each)
	b.ReportAllocs()
	for b.Loop() {
		for i := range each {
			at += 50_000
			connect, accept := connectBy(k, at), connectBy(k, at+10_000)
			accept.Via, accept.Local, accept.Remote = bpf.ViaAccept, accept.Remote, connect.Remote
			answered, over, other := established(&connect, 5000), closed(&connect, 30_000), closed(&accept, 15_000)
			answered.Attempt, over.Attempt, other.Attempt, other.Accepted = connect.ID(), connect.ID(), accept.ID(), true
			connects[i], accepts[i] = connect, accept
			copy(outcomes[3*i:], []bpf.Outcome{answered, other, over})
		}
		src.connects, src.events, src.outcomes = connects, accepts, outcomes
		if len(r.queue.open.Connections)+each > cap(r.queue.open.Connections) {
			r.queue.open.Connections = r.queue.open.Connections[:0]
			clear(r.fates.rows)
		}
		if err := r.drain(b.Context()); !errors.Is(err, src.failure) {
			b.Fatal(err)
		}
		if err := r.pass(); err != nil {
			b.Fatal(err)
		}
	}
	if lost := r.ledger.outcomes.received - r.ledger.outcomes.stored - r.ledger.outcomes.coalesced; lost != 0 {
		b.Errorf("%d outcomes found no row", lost)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*each), "ns/connection")
}

func TestNothingIsAllocatedForWhatIsKnown(t *testing.T) {
	r, list := load(t, 5000)
	r.queue.open.Connections = make([]store.Connection, 0, 200_000)
	for i := range list {
		r.take(&list[i])
	}
	i := 0
	if n := testing.AllocsPerRun(50_000, func() { r.take(&list[i%len(list)]); i++ }); n != 0 {
		t.Errorf("%v allocations a connect", n)
	}
}
