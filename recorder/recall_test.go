package recorder

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/conntape/conntape/store"
)

// Names on the tape name connects as those that are read do: by the process that got them, by a stub, or by nobody known, in their
// namespace and time; of one process no more than it may have.
func TestRecallNames(t *testing.T) {
	second := uint64(time.Second)
	g := newNamings()
	answer := func(name string, tgid uint32, exe, answers string) store.KnownName {
		return store.KnownName{Lookup: store.Lookup{Name: name, Answers: answers, TTL: 100}, Tgid: tgid, StartBoot: uint64(tgid), Exe: exe, NetNS: 7, Last: 1000 * second}
	}
	elsewhere := answer("elsewhere.example", 1, "/bin/curl", "192.0.2.1")
	elsewhere.NetNS = 8
	g.recall([]store.KnownName{
		answer("own.example", 1, "/bin/curl", "cname:192.0.2.9 192.0.2.1 2001:db8::1 …"), elsewhere,
		answer("stub.example", 2, "/usr/lib/systemd/systemd-resolved", "192.0.2.1 192.0.2.2"),
		answer("nobody.example", 0, "", "192.0.2.3"),
	})
	for _, c := range []struct {
		address string
		tgid    uint32
		at      uint64
		want    string
	}{
		{"192.0.2.1", 1, 1001, "[own.example] dns"}, {"2001:db8::1", 1, 1001, "[own.example] dns"}, {"192.0.2.1", 3, 1001, "[stub.example] stub"},
		{"192.0.2.2", 1, 1001, "[stub.example] stub"}, {"192.0.2.3", 1, 1001, "[nobody.example] unattributed"}, {"192.0.2.9", 1, 1001, "[] "},
		{"192.0.2.1", 1, 1161, "[] "}, {"192.0.2.1", 1, 999, "[] "},
	} {
		names, source := g.find(placeKey{7, netip.MustParseAddr(c.address)}, lifeKey{uint64(c.tgid), c.tgid}, c.at*second)
		if got := fmt.Sprint(slices.Clone(names), " ", source); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
	var many []store.KnownName
	for i := range mostNamingsEach + 10 {
		many = append(many, answer(fmt.Sprintf("n%d.example", i), 9, "/bin/flood", fmt.Sprintf("10.0.%d.%d", i/256, i%256)))
	}
	g.recall(many)
	if n := len(g.by[lifeKey{9, 9}]); n != mostNamingsEach || g.forgot != 0 {
		t.Errorf("%d of one process, %d forgotten", n, g.forgot)
	}
}
