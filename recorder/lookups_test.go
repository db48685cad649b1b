package recorder

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// ask plays a process that connects a socket to a DNS server. It returns the record.
func asking(k bpf.ProcessKey, at uint64, netns uint32) bpf.Connect {
	c := connectBy(k, at)
	c.Type, c.Protocol, c.Remote, c.NetNS = unix.SOCK_DGRAM, unix.IPPROTO_UDP, ipv4(127, 0, 0, 53, 53), netns
	return c
}

// going plays a connect to port 443 of an address.
func going(k bpf.ProcessKey, at uint64, netns uint32, to [4]byte) bpf.Connect {
	c := connectBy(k, at)
	c.NetNS, c.Remote = netns, ipv4(to[0], to[1], to[2], to[3], 443)
	return c
}

// answer plays what a server says to the socket of a record.
func (s *script) answer(t *testing.T, to bpf.Connect, after, ttl uint64, name string, addresses ...string) {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	for _, address := range addresses {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: uint32(ttl)},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
		})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters.AnswerSeen++
	s.counters.AnswerSent++
	s.answers = append(s.answers, bpf.Answer{BootTime: to.BootTime + after, Cookie: to.Cookie, NetNS: to.NetNS, From: netip.MustParseAddr("127.0.0.53"), Whole: len(b), Bytes: b})
}

// namesOf are the names of what went to port 443, in order of time.
func namesOf(out *memory) (all []string) {
	rows := slices.Clone(out.rows)
	slices.SortFunc(rows, func(a, b store.Connection) int { return int(int64(a.BootTime - b.BootTime)) })
	for _, row := range rows {
		if row.Remote.Port == 443 {
			all = append(all, row.Remote.Names+"/"+row.Remote.NameSource)
		}
	}
	return all
}

func naming1() config {
	c := quick()
	c.lookups = true
	return c
}

// A connect says all names that led its process to the address, and are good still, in its network namespace; else what a stub of
// that got; and nothing of another process.
func TestNamesOfConnects(t *testing.T) {
	src, out := newScript(), newMemory()
	const here, there = 11, 12
	second := uint64(time.Second)
	begin := bootNow() - 120*second
	at := func(s uint64) uint64 { return begin + s*second }
	curl, other, resolved := key(1, 1, 1), key(2, 2, 1), key(3, 3, 1)
	for k, exe := range map[bpf.ProcessKey]string{curl: "/bin/curl", other: "/bin/other", resolved: "/usr/lib/systemd/systemd-resolved"} {
		src.process(execOf(k, bpf.ProcessKey{}, begin, exe, "x\x00"))
	}
	asks, asksThere, stub, nobody := asking(curl, at(0), here), asking(curl, at(0)+1, there), asking(resolved, at(0)+2, here), asking(curl, at(0)+3, here)
	src.answer(t, asks, 1*second, 10, "expired.example.", "192.0.2.1")
	src.answer(t, asks, 50*second, 100, "A.example.", "192.0.2.2", "192.0.2.1")
	src.answer(t, asks, 51*second, 0, "b.example.", "192.0.2.2")
	src.answer(t, asksThere, 52*second, 100, "elsewhere.example.", "192.0.2.3")
	src.answer(t, stub, 52*second, 100, "stub.example.", "192.0.2.2", "192.0.2.4")
	nobody.Cookie = 4711 // and so the answer is that of a socket that no record tells of
	src.answer(t, nobody, 53*second, 100, "nobody.example.", "192.0.2.4", "192.0.2.5")
	src.answer(t, asks, 90*second, 100, "late.example.", "192.0.2.2")
	for i := range 10 {
		src.answer(t, asks, 53*second, 100, fmt.Sprintf("n%d.example.", i), "192.0.2.9")
	}
	last := func(c byte) [4]byte { return [4]byte{192, 0, 2, c} }
	src.connect(asks, asksThere, stub,
		going(curl, at(2), here, last(1)),     // before it expired
		going(curl, at(80), here, last(1)),    // and after
		going(curl, at(81), here, last(2)),    // two names
		going(curl, at(82), there, last(2)),   // not in that namespace
		going(curl, at(83), there, last(3)),   // in that
		going(curl, at(84), here, last(3)),    // not in this
		going(other, at(85), here, last(2)),   // by the stub, not by another process
		going(other, at(86), here, last(4)),   // likewise
		going(other, at(87), here, last(5)),   // nobody knows who asked
		going(curl, at(88), here, last(7)),    // never heard of
		going(curl, at(89), here, last(9)),    // more than there is room for
		going(curl, at(112), here, last(2)),   // b had no TTL, and its minute is over
		going(other, at(113), there, last(5)), // not in that namespace
	)
	stop := start(t, src, out, naming1(), Options{})
	waitFor(t, "the rows", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		return len(out.rows) == 16
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	want := []string{
		"expired.example/dns", "a.example/dns", "a.example b.example/dns", "/", "elsewhere.example/dns", "/", "stub.example/stub", "stub.example/stub", "nobody.example/unattributed", "/",
		"n0.example n1.example n2.example n3.example n4.example n5.example n6.example n7.example +2/dns", "a.example late.example/dns", "/",
	}
	if got := namesOf(out); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if c := out.counters; c["lookup_seen"] != 17 || c["lookup_read"] != 17 || c["lookup_stored"] != 17 || c["lookup_lost"]+c["lookup_bad"]+c["lookup_dropped"] != 0 {
		t.Errorf("counters %v", c)
	}
}

// lookupsOf sums the parts of a fold, by name and process.
func lookupsOf(out *memory) map[string]uint64 {
	all := map[string]uint64{}
	for _, b := range out.batches {
		for _, e := range b.Sockets {
			if e.Lookup != nil {
				who := "nobody"
				if e.Task != nil {
					who = e.Task.Process.Exe
				}
				all[e.Lookup.Name+" "+e.Lookup.Answers+" "+who] += e.Count
			}
		}
	}
	return all
}

// What was asked for is kept whether a connect followed or not, and repeats are counted; of somebody who asks for more names than there is room for
// those beyond are counted, and another's are kept.
func TestLookupsAreFolded(t *testing.T) {
	src, out := newScript(), newMemory()
	now, flood, calm := bootNow()-uint64(10*time.Second), key(1, 1, 1), key(2, 2, 1)
	src.process(execOf(flood, bpf.ProcessKey{}, now, "/bin/tunnel", "x\x00"), execOf(calm, bpf.ProcessKey{}, now, "/bin/calm", "x\x00"))
	asks, quiet := asking(flood, now, 1), asking(calm, now+1, 1)
	const names = mostFoldsEach + 500
	for i := range names {
		src.answer(t, asks, 10, 0, fmt.Sprintf("n%d.tunnel.example.", i))
	}
	for range 3 {
		src.answer(t, quiet, 10, 5, "calm.example.", "192.0.2.2", "192.0.2.1")
	}
	src.mu.Lock()
	src.answers = append(src.answers, bpf.Answer{BootTime: now, Bytes: []byte("no answer")})
	src.counters.AnswerSeen, src.counters.AnswerSent = src.counters.AnswerSeen+1, src.counters.AnswerSent+1
	src.mu.Unlock()
	src.connect(asks, quiet)
	if err := start(t, src, out, naming1(), Options{})(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	all := lookupsOf(out)
	if all["calm.example 192.0.2.1 192.0.2.2 /bin/calm"] != 3 || all["  /bin/tunnel"] != 500 || len(all) != mostFoldsEach+2 {
		t.Errorf("%d folds, of calm %d, of those beyond %d", len(all), all["calm.example 192.0.2.1 192.0.2.2 /bin/calm"], all["  /bin/tunnel"])
	}
	if c := out.counters; c["lookup_stored"] != names+3 || c["lookup_bad"] != 1 || c["lookup_read"] != names+4 {
		t.Errorf("counters %v", c)
	}
}

// However many names there are, so many are remembered, of one process an eighth; who floods pushes out his own.
func TestNamingsAreBounded(t *testing.T) {
	g := newNamings()
	calm := naming{name: "calm", asker: lifeKey{1, 1}, until: 100}
	place := func(i int) placeKey {
		return placeKey{1, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
	}
	g.learn(place(0), calm)
	for i := range 3 * mostNamingsEach {
		g.learn(place(i), naming{name: "flood", asker: lifeKey{2, 2}, until: 100})
	}
	if g.n != mostNamingsEach+1 || len(g.by[lifeKey{2, 2}]) != mostNamingsEach || g.forgot != 2*mostNamingsEach {
		t.Errorf("%d are remembered, %d of the flood, %d went", g.n, len(g.by[lifeKey{2, 2}]), g.forgot)
	}
	if names, source := g.find(place(0), lifeKey{1, 1}, 50); !slices.Equal(names, []string{"calm"}) || source != store.NameDNS {
		t.Errorf("of the calm one is left %q, %s", names, source)
	}
	for i := range 2 * mostNamings {
		g.learn(place(i), naming{name: "many", asker: lifeKey{uint64(i), 3}, until: 100})
	}
	if g.n > mostNamings {
		t.Errorf("%d are remembered", g.n)
	}
	g.expire(101)
	if g.n != 0 || len(g.of)+len(g.by) != 0 {
		t.Errorf("%d are left, %d, %d", g.n, len(g.of), len(g.by))
	}
}
