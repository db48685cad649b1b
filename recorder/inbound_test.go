package recorder

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// accept plays a connection that a process accepts at 10.0.0.9:80.
func (s *script) accept(k bpf.ProcessKey, at uint64, peer string) *bpf.Connect {
	c := connectBy(k, at)
	c.Via, c.SocketFamily, c.Protocol, c.Errno, c.HookErrno = bpf.ViaAccept, unix.AF_INET, protocolTCP, 0, bpf.Unknown
	c.Local, c.Remote = sockaddrOf("10.0.0.9:80"), sockaddrOf(peer)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, c)
	s.counters.EventSeen++
	s.counters.EventSent++
	return &c
}

func sockaddrOf(text string) []byte {
	a := netip.MustParseAddrPort(text)
	four := a.Addr().As4()
	return append([]byte{unix.AF_INET, 0, byte(a.Port() >> 8), byte(a.Port())}, append(four[:], make([]byte, 8)...)...)
}

// over plays the end of an accepted connection.
func (s *script) over(of *bpf.Connect, errno uint16, sent, received uint64) {
	s.outcome(of, bpf.Outcome{Kind: bpf.OutcomeClosed, Accepted: true, From: bpf.TCPLastAck, Established: of.BootTime, BootTime: of.BootTime + 5000, Errno: errno, Sent: sent, Received: received})
}

// foldsOf sums the parts of a fold, by address of the peer.
func foldsOf(out *memory) map[string]store.SocketEvent {
	out.mu.Lock()
	defer out.mu.Unlock()
	all := map[string]store.SocketEvent{}
	for _, b := range out.batches {
		for _, e := range b.Sockets {
			name := "nowhere"
			if e.Remote != nil {
				name = netip.AddrPortFrom(netip.MustParseAddr(e.Remote.Address), uint16(e.Remote.Port)).String()
			}
			sum := all[name]
			sum.Task, sum.Local, sum.Window = e.Task, e.Local, e.Window
			sum.Count, sum.Ended, sum.Failed = sum.Count+e.Count, sum.Ended+e.Ended, sum.Failed+e.Failed
			sum.Sent, sum.Received, sum.Longest = sum.Sent+e.Sent, sum.Received+e.Received, max(sum.Longest, e.Longest)
			all[name] = sum
		}
	}
	return all
}

// Connections of one peer are folded, with the bytes of those that ended, whether their end was read before or after them.
func TestAcceptsAreFolded(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now, k := bootNow(), key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/server", "server\x00"))
	first := src.accept(k, now, "192.0.2.1:40000")
	waitFor(t, "the first row", func() bool { return len(foldsOf(out)) == 1 })
	second := src.accept(k, now+1000, "192.0.2.1:40001")
	src.over(second, uint16(unix.ECONNRESET), 5, 7)
	src.over(first, 0, 100, 200)
	src.accept(k, now+2000, "192.0.2.2:40000")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	all := foldsOf(out)
	one, other := all["192.0.2.1:0"], all["192.0.2.2:0"]
	if len(all) != 2 || one.Count != 2 || one.Ended != 2 || one.Failed != 1 || one.Sent != 105 || one.Received != 207 || one.Longest != 5000 ||
		one.Window != now || one.Local.Port != 80 || other.Count != 1 || other.Ended != 0 {
		t.Errorf("%+v", all)
	}
	if c := out.counters; c["event_seen"] != 3 || c["event_stored"] != 3 || c["event_lost"] != 0 || c["outcome_lost"] != 0 {
		t.Errorf("counters %v", c)
	}
}

// With accept=all each has its row, with the peer's port.
func TestEachAcceptHasItsRow(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.single = true
	stop := start(t, src, out, c, Options{})
	now, k := bootNow(), key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/server", "server\x00"))
	first := src.accept(k, now, "192.0.2.1:40000")
	src.accept(k, now+1000, "192.0.2.1:40001")
	src.over(first, 0, 100, 200)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	all := foldsOf(out)
	if one := all["192.0.2.1:40000"]; len(all) != 2 || one.Count != 1 || one.Sent != 100 || all["192.0.2.1:40001"].Count != 1 {
		t.Errorf("%+v", all)
	}
}

// Peers without number take no memory without bound, nor another process's rows: what has none of its own is counted in one of
// its process's without an address.
func TestFloodOfPeers(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now, flooded, other := bootNow(), key(1, 1, 1), key(2, 2, 1)
	src.process(execOf(flooded, bpf.ProcessKey{}, now, "/bin/flooded", "flooded\x00"), execOf(other, bpf.ProcessKey{}, now, "/bin/other", "other\x00"))
	const n = mostFoldsEach + 1000
	for i := range n {
		src.accept(flooded, now+uint64(i), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 4000).String())
	}
	src.accept(other, now, "192.0.2.1:40000")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	all := foldsOf(out)
	if len(all) != mostFoldsEach+2 || all["nowhere"].Count != 1000 || all["192.0.2.1:0"].Count != 1 {
		t.Errorf("%d rows, %+v, %+v", len(all), all["nowhere"], all["192.0.2.1:0"])
	}
	if c := out.counters; c["event_seen"] != n+1 || c["event_stored"] != n+1 || c["event_lost"] != 0 {
		t.Errorf("counters %v", c)
	}
}
