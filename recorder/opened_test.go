package recorder

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// does plays what a process does to a socket.
func (s *script) does(k bpf.ProcessKey, at uint64, via bpf.Via, family, kind, protocol uint16, local []byte) {
	c := connectBy(k, at)
	c.Via, c.SocketFamily, c.Type, c.Protocol, c.Errno, c.HookErrno = via, family, kind, protocol, 0, bpf.Unknown
	c.Local, c.Remote = local, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, c)
	s.counters.EventSeen++
	s.counters.EventSent++
}

// placeOf is where a packet socket is bound.
func placeOf(family uint16, ifindex uint32, name string) []byte {
	raw := make([]byte, 28)
	binary.NativeEndian.PutUint16(raw, family)
	binary.NativeEndian.PutUint32(raw[4:], ifindex)
	copy(raw[12:], name)
	return raw
}

// toldOf sums the rows of socket events, by what they tell.
func toldOf(out *memory) map[string]uint64 {
	all := map[string]uint64{}
	for _, b := range out.batches {
		for _, e := range b.Sockets {
			at := "nowhere"
			if e.Local != nil {
				at = fmt.Sprint(e.Local.Address, " ", e.Local.Port)
			}
			all[fmt.Sprintf("%s %s %d/%d/%d at %s", e.Task.Process.Exe, e.Shape.Via, e.Shape.SocketFamily, e.Shape.Type, e.Shape.Protocol, at)] += e.Count
		}
	}
	return all
}

// What a process does to sockets of one kind and at one place is one row, whatever the number.
func TestOpenedSocketsAreFolded(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now, k := bootNow(), key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/sniffer", "sniffer\x00"))
	for i := range uint64(100) {
		src.does(k, now+i, bpf.ViaSocket, unix.AF_PACKET, unix.SOCK_RAW, unix.ETH_P_ALL, nil)
	}
	src.does(k, now+200, bpf.ViaBind, unix.AF_PACKET, unix.SOCK_RAW, unix.ETH_P_ALL, placeOf(unix.AF_PACKET, 2, "eth0"))
	src.does(k, now+201, bpf.ViaBind, unix.AF_PACKET, unix.SOCK_RAW, unix.ETH_P_ALL, placeOf(unix.AF_PACKET, 2, "eth0"))
	src.does(k, now+202, bpf.ViaBind, unix.AF_PACKET, unix.SOCK_RAW, unix.ETH_P_ALL, placeOf(unix.AF_PACKET, 0, ""))
	src.does(k, now+203, bpf.ViaTun, 0, 0, 0, placeOf(noFamily, 0, "tun\x1b[2J"))
	src.does(k, now+204, bpf.ViaListen, unix.AF_INET, unix.SOCK_STREAM, protocolTCP, sockaddrOf("10.0.0.9:80"))
	src.does(k, now+205, bpf.ViaListen, unix.AF_INET, unix.SOCK_STREAM, protocolTCP, sockaddrOf("10.0.0.9:80"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	got := toldOf(out)
	for what, n := range map[string]uint64{
		"/bin/sniffer socket 17/3/3 at nowhere":        100,
		"/bin/sniffer bind 17/3/3 at eth0 -1":          2,
		"/bin/sniffer bind 17/3/3 at any interface -1": 1,
		`/bin/sniffer tun 0/0/0 at tun\x1b[2J -1`:      1,
		"/bin/sniffer listen 2/1/6 at 10.0.0.9 80":     2,
	} {
		if got[what] != n {
			t.Errorf("%d of %q, want %d", got[what], what, n)
		}
		delete(got, what)
	}
	if len(got) > 0 {
		t.Errorf("and %v", got)
	}
	if c := out.counters; c["event_seen"] != 106 || c["event_stored"] != 106 || c["event_lost"] != 0 {
		t.Errorf("counters %v", c)
	}
}

// A process that binds everywhere takes no memory without bound, nor another's rows; what is counted together has no address.
func TestFloodOfBinds(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now, flooded, other := bootNow(), key(1, 1, 1), key(2, 2, 1)
	src.process(execOf(flooded, bpf.ProcessKey{}, now, "/bin/flooded", "flooded\x00"), execOf(other, bpf.ProcessKey{}, now, "/bin/other", "other\x00"))
	const n = mostFoldsEach + 1000
	for i := range n {
		src.does(flooded, now+uint64(i), bpf.ViaBind, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP, sockaddrOf(fmt.Sprintf("10.0.0.9:%d", 1000+i)))
	}
	src.does(other, now, bpf.ViaBind, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP, sockaddrOf("192.0.2.7:53"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	got := toldOf(out)
	if len(got) != mostFoldsEach+2 || got["/bin/flooded bind 2/2/17 at nowhere"] != 1000 || got["/bin/other bind 2/2/17 at 192.0.2.7 53"] != 1 {
		t.Errorf("%d rows, %d without address", len(got), got["/bin/flooded bind 2/2/17 at nowhere"])
	}
	if c := out.counters; c["event_seen"] != n+1 || c["event_stored"] != n+1 || c["event_lost"] != 0 {
		t.Errorf("counters %v", c)
	}
}

// What the kernel had no room for is told in a gap.
func TestOpenedSocketsAreLost(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	src.mu.Lock()
	src.counters.EventSeen, src.counters.EventLost = 7, 7
	src.mu.Unlock()
	waitFor(t, "the gap", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		return slices.ContainsFunc(out.gaps, func(g store.Gap) bool {
			return g.Cause == causeEvent && g.Lost == 0 && g.Detail == "7 connections that were accepted, or sockets that were opened or listen; connects are complete"
		})
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if c := out.counters; c["event_seen"] != 7 || c["event_stored"] != 0 || c["event_lost"] != 7 {
		t.Errorf("counters %v", c)
	}
}

func TestPlaceText(t *testing.T) {
	for want, p := range map[string]struct {
		raw   []byte
		place bpf.Place
	}{
		"eth0":          {placeOf(unix.AF_PACKET, 2, "eth0"), bpf.Place{Interface: 2, Name: "eth0"}},
		"ifindex 2":     {placeOf(unix.AF_PACKET, 2, ""), bpf.Place{Interface: 2}},
		"any interface": {placeOf(unix.AF_PACKET, 0, ""), bpf.Place{}},
		"eth0 queue 3":  {placeOf(unix.AF_XDP, 2, "eth0"), bpf.Place{Interface: 2, Name: "eth0", Queue: 3}},
		"any name":      {placeOf(noFamily, 0, ""), bpf.Place{}},
		`a\x1b`:         {placeOf(noFamily, 0, "a\x1b"), bpf.Place{Name: "a\x1b"}},
	} {
		if got := placeText(p.raw, p.place); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// A sockaddr of the same bytes is another address.
	r := newResolver("fexit", nil, nil, nil, nil)
	r.endpoints.put(string(placeOf(unix.AF_PACKET, 2, "eth0")), &store.Endpoint{Address: "of a sockaddr"})
	if _, ok := r.endpoints.get(string(placeOf(unix.AF_PACKET, 2, "eth0")) + notSockaddr); ok {
		t.Error("a place is found by a sockaddr")
	}
}

// What sockets were when recording began is told beside what they did since, apart from it, and counted.
func TestFoundSocketsAreTold(t *testing.T) {
	src, out := newScript(), newMemory()
	now, k := bootNow(), key(1, 1, 1)
	src.setAlive(aliveOf(k, bpf.ProcessKey{}, "/bin/server"))
	c := connectBy(k, now)
	c.Via, c.SocketFamily, c.Type, c.Protocol, c.Errno, c.HookErrno, c.Found = bpf.ViaListen, unix.AF_INET, unix.SOCK_STREAM, protocolTCP, bpf.Unknown, bpf.Unknown, true
	c.Local, c.Remote = sockaddrOf("10.0.0.9:80"), nil
	src.found = []bpf.Connect{c}
	stop := start(t, src, out, quick(), Options{})
	waitFor(t, "the row", func() bool { return len(toldOf(out)) == 1 })
	src.does(k, now+1, bpf.ViaListen, unix.AF_INET, unix.SOCK_STREAM, protocolTCP, sockaddrOf("10.0.0.9:80"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	sources := map[string]uint64{}
	for _, b := range out.batches {
		for _, e := range b.Sockets {
			sources[e.Shape.AddressSource+" "+e.Task.Process.Exe] += e.Count
		}
	}
	if len(sources) != 2 || sources["snapshot /bin/server"] != 1 || sources["kernel /bin/server"] != 1 {
		t.Errorf("told %v", sources)
	}
	if n := out.counters; n["event_seen"] != 2 || n["event_found"] != 1 || n["event_stored"] != 2 || n["event_lost"] != 0 {
		t.Errorf("counters %v", n)
	}
}
