package recorder

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// A connect gets the names that led to its address: those of answers that came before it, in the same network namespace, and were
// good still. Answers that the process itself got are all there is, if there are any; else those of a stub, which asks for
// others; else those of which nobody knows who got them.

const (
	// nameSlack is how long after its TTL a name still counts: programs keep what they asked for, and a TTL may be 0.
	nameSlack = uint64(time.Minute)
	// longestTTL bounds what a server may say.
	longestTTL = uint64(24 * time.Hour)
	// mostNamings bounds the names of addresses that are remembered, and mostNamingsEach those that one process asked for: then its
	// oldest goes.
	mostNamings     = 32 << 10
	mostNamingsEach = mostNamings / 8
	// mostNames is how many names a row has. Of more it says how many.
	mostNames = 8
)

// isStub tells programs that ask for others: these reach them by D-Bus, varlink or another protocol that does not tell who asks what.
func isStub(exe string) bool {
	at := len(exe)
	for at > 0 && exe[at-1] != '/' {
		at--
	}
	switch exe[at:] {
	case "systemd-resolved", "nscd", "unscd", "nsncd":
		return true
	}
	return false
}

// placeKey is an address in a network namespace.
type placeKey struct {
	netns   uint32
	address netip.Addr
}

// naming is a name of a place.
type naming struct {
	name        string
	asker       lifeKey // zero: nobody knows
	source      string  // to somebody else than the asker
	from, until uint64  // ns CLOCK_BOOTTIME
}

// namings are the names of places. They belong to the draining goroutine.
type namings struct {
	of     map[placeKey][]naming
	by     map[lifeKey][]placeKey // places that somebody has a name of, the oldest first
	n      int
	found  []string // reused
	forgot uint64   // names that went for want of room
}

func newNamings() *namings {
	return &namings{of: map[placeKey][]naming{}, by: map[lifeKey][]placeKey{}}
}

// learn notes that a name led to an address.
func (g *namings) learn(at placeKey, n naming) {
	all := g.of[at]
	for i := range all {
		if old := &all[i]; old.name == n.name && old.asker == n.asker {
			if old.until < n.from { // it had expired
				old.from = n.from
			}
			old.until = max(old.until, n.until)
			return
		}
	}
	if len(g.by[n.asker]) >= mostNamingsEach {
		g.forgetOldest(n.asker)
	}
	for asker := range g.by { // of one or another
		if g.n < mostNamings {
			break
		}
		g.forgetOldest(asker)
	}
	g.of[at] = append(g.of[at], n)
	g.by[n.asker] = append(g.by[n.asker], at)
	g.n++
}

// forgetOldest makes room.
func (g *namings) forgetOldest(asker lifeKey) {
	at := g.by[asker][0]
	if g.by[asker] = g.by[asker][1:]; len(g.by[asker]) == 0 {
		delete(g.by, asker)
	}
	i := slices.IndexFunc(g.of[at], func(n naming) bool { return n.asker == asker })
	g.remove(at, i)
	g.forgot++
}

func (g *namings) remove(at placeKey, i int) {
	g.n--
	if g.of[at] = slices.Delete(g.of[at], i, i+1); len(g.of[at]) == 0 {
		delete(g.of, at)
	}
}

// expire forgets what no connect can have been led by any more.
func (g *namings) expire(now uint64) {
	for asker, places := range g.by {
		kept := places[:0]
		for _, at := range places {
			i := slices.IndexFunc(g.of[at], func(n naming) bool { return n.asker == asker && n.until < now })
			if i < 0 {
				kept = append(kept, at)
				continue
			}
			g.remove(at, i)
		}
		if g.by[asker] = kept; len(kept) == 0 {
			delete(g.by, asker)
		}
	}
}

// find returns the names of a place for a process at a time, in order, and who got the answers. The names are good until the next call.
func (g *namings) find(at placeKey, who lifeKey, when uint64) (names []string, source string) {
	all := g.of[at]
	if len(all) == 0 {
		return nil, ""
	}
	for _, source := range []string{store.NameDNS, store.NameStub, store.NameUnattributed} {
		g.found = g.found[:0]
		for i := range all {
			n := &all[i]
			if n.from <= when && when <= n.until && (source == store.NameDNS && n.asker == who || n.asker != who && n.source == source) {
				g.found = append(g.found, n.name)
			}
		}
		if len(g.found) > 0 {
			slices.Sort(g.found)
			return slices.Compact(g.found), source
		}
	}
	return nil, ""
}

// nameKey has r.key hold the addresses of a connect and, behind a byte that tells who got the answers, the names that led there. It returns who
// that was, "" where there is no name.
func (r *resolver) nameKey(c *bpf.Connect, who lifeKey) (source string) {
	if r.namings == nil || r.namings.n == 0 || c.NetNS == 0 {
		return ""
	}
	asked := c.Remote
	if len(c.Requested) > 0 {
		asked = c.Requested
	}
	address, ok := addressOf(asked)
	if !ok {
		return ""
	}
	names, source := r.namings.find(placeKey{c.NetNS, address}, who, c.BootTime)
	if source == "" {
		return ""
	}
	r.key = append(append(append(r.key[:0], c.Remote...), c.Requested...), source[0])
	for i, name := range names[:min(len(names), mostNames)] {
		if i > 0 {
			r.key = append(r.key, ' ')
		}
		r.key = append(r.key, name...)
	}
	if more := len(names) - mostNames; more > 0 {
		r.key = fmt.Appendf(r.key, " +%d", more)
	}
	return source
}

// addressOf reads the address of an inet sockaddr; of an IPv6 socket to IPv4 the latter.
func addressOf(raw []byte) (netip.Addr, bool) {
	if len(raw) < 8 {
		return netip.Addr{}, false
	}
	switch family := binary.NativeEndian.Uint16(raw); {
	case family == unix.AF_INET:
		return netip.AddrFrom4([4]byte(raw[4:8])), true
	case family == unix.AF_INET6 && len(raw) >= 24:
		return netip.AddrFrom16([16]byte(raw[8:24])).Unmap(), true
	}
	return netip.Addr{}, false
}
