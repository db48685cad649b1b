package recorder

import (
	"path/filepath"
	"testing"

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
