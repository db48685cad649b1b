package recorder

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/recorder/dns"
	"github.com/conntape/conntape/store"
)

// Answers by DNS become rows of the view lookups, folded like accepted connections, and name the addresses of connects. Before an
// answer is in its ring, the connect of its socket, or the first send, is in the ring of connects; and before a connect that an
// answer led to is in that, the answer is in its own. So each connect is named by answers that were read before it is resolved, and
// none comes late. An answer of a socket that is not known yet waits until everything that was before it has been read.

const (
	// mostAskers is how many sockets that asked each of two generations remembers.
	mostAskers = 8 << 10
	// mostWaiting bounds the answers that wait for their socket.
	mostWaiting = 4 << 10
	// mostAnswers bounds what is read between two looks at connects: more than the ring holds, so that all is read that was in it.
	mostAnswers = 4 << 10
	// lastAnswers bounds what is read before another recorder goes on: more than the ring holds.
	lastAnswers = 64 << 10
	// forever is later than any record.
	forever = uint64(math.MaxUint64)

	portDNS = 53
)

// viaLookup is the via of answers' shapes.
const viaLookup = "lookup"

// answered is an answer that was read.
type answered struct {
	dns.Message
	kind   uint32 // Message.Type, or what is no type of DNS
	port   uint16 // of from
	time   uint64 // ns CLOCK_BOOTTIME
	cookie uint64
	key    bpf.ProcessKey
	netns  uint32
	tcp    bool
	from   netip.Addr
}

// lookups are what the recorder knows of names. They belong to the draining goroutine.
type lookups struct {
	off     bool
	names   *namings
	askers  *generations[uint64, *party] // by socket
	waiting []answered                   // in order of time
	streams dns.Streams
	folds   *inbound
	shapes  [2]*store.Shape // of answers by UDP, and by TCP
	hellos  hellos
	nobody  *party     // who asked where nobody knows
	record  bpf.Answer // reused
	server  []byte     // likewise, a sockaddr
}

func newLookups(backend string, r *resolver) *lookups {
	l := &lookups{
		names: newNamings(), askers: newGenerations[uint64, *party](mostAskers), folds: newInbound(false),
		nobody: &party{share: r.share(owner{})},
	}
	for i, kind := range []uint16{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		l.shapes[i] = &store.Shape{
			SocketFamily: unix.AF_INET, Type: kind, Protocol: []uint16{unix.IPPROTO_UDP, unix.IPPROTO_TCP}[i], Via: viaLookup,
			AddressSource: "kernel", Backend: backend, HookErrno: store.Unknown, Errno: store.Unknown,
		}
	}
	return l
}

// ask notes who has a socket that connected to a DNS server, or sent to one.
func (l *lookups) ask(c *bpf.Connect, who *party) {
	if !l.off && c.Cookie != 0 && len(c.Remote) >= 4 && c.SocketFamily != unix.AF_UNIX && binary.BigEndian.Uint16(c.Remote[2:]) == portDNS {
		l.askers.put(c.Cookie, who)
	}
}

// drainAnswers reads answers, so many at the most, and up to the first that came after a time.
func (r *recorder) drainAnswers(most int, until uint64) error {
	l := r.lookups
	for l.record.BootTime = 0; most > 0 && l.record.BootTime <= until; most-- {
		ok, err := r.src.ReadAnswer(&l.record)
		if err != nil {
			return fmt.Errorf("read ring of answers: %w", err)
		}
		if !ok {
			return nil
		}
		r.ledger.lookups.received++
		a := &l.record
		switch {
		case a.Hello:
			r.readHello(a)
		case !a.TCP:
			r.parseAnswer(a, a.Bytes)
		default:
			l.streams.Add(a.Cookie, a.Sequence, a.Bytes, a.Whole, func(message []byte) { r.parseAnswer(a, message) })
		}
	}
	return nil
}

// parseAnswer takes one message.
func (r *recorder) parseAnswer(a *bpf.Answer, message []byte) {
	l := r.lookups
	m, err := dns.Parse(message)
	if err != nil {
		r.ledger.lookups.bad++
		return
	}
	one := answered{Message: m, kind: uint32(m.Type), port: portDNS, time: a.BootTime, cookie: a.Cookie, key: a.Key, netns: a.NetNS, tcp: a.TCP, from: a.From}
	if _, known := l.askers.get(one.cookie); known || len(l.waiting) >= mostWaiting {
		r.takeAnswer(&one)
		return
	}
	i := len(l.waiting) // CPUs differ a little
	for i > 0 && l.waiting[i-1].time > one.time {
		i--
	}
	l.waiting = slices.Insert(l.waiting, i, one)
}

// settleAnswers takes answers that waited, of sockets that are known by now or because everything that was before the horizon has been read.
func (r *recorder) settleAnswers(horizon uint64) {
	r.settleUntil(horizon)
	l := r.lookups
	kept := l.waiting[:0]
	for i := range l.waiting {
		one := &l.waiting[i]
		if _, known := l.askers.get(one.cookie); known {
			r.takeAnswer(one)
		} else {
			kept = append(kept, *one)
		}
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
}

// settleUntil takes answers that waited, up to the horizon. It looks at no later one: it is called for each connect.
func (r *recorder) settleUntil(horizon uint64) {
	l := r.lookups
	n := 0
	for n < len(l.waiting) && l.waiting[n].time <= horizon {
		r.takeAnswer(&l.waiting[n])
		n++
	}
	clear(l.waiting[:n])
	l.waiting = l.waiting[n:]
}

// nameBefore reads the answers that came before a connect: each once, so that a flood of them makes them no dearer.
func (r *recorder) nameBefore(c *bpf.Connect) {
	if r.lookups.off || c.SocketFamily == unix.AF_UNIX {
		return
	}
	if err := r.drainAnswers(mostAnswers, c.BootTime); err != nil {
		r.err = err
	}
	r.settleUntil(c.BootTime)
}

// askerOf finds who got an answer, nil unknown.
func (r *recorder) askerOf(one *answered) *party {
	if who, ok := r.lookups.askers.get(one.cookie); ok {
		return who
	}
	if one.key == (bpf.ProcessKey{}) {
		return nil
	}
	p := r.lookUp(one.key)
	if p == nil {
		return nil
	}
	as := bpf.Connect{
		Key: one.key, Tid: one.key.Tgid, UID: p.UID, GID: p.GID, EUID: p.EUID, NetNS: one.netns, CgroupID: p.CgroupID,
		LoginUID: kernelID(p.LoginUID), SessionID: kernelID(p.SessionID),
	}
	copy(as.Comm[:], p.Comm)
	return r.resolver.party(&as)
}

// kernelID is the reverse of auditID.
func kernelID(id int64) uint32 {
	if id < 0 {
		return bpf.Unset
	}
	return uint32(id)
}

// takeAnswer learns the names, and counts the answer.
func (r *recorder) takeAnswer(one *answered) {
	who := r.askerOf(one)
	n := naming{name: one.Name, source: store.NameUnattributed, from: one.time}
	if who != nil {
		n.asker, n.source = who.owner.life, ""
		if isStub(who.task.Process.Exe) {
			n.source = store.NameStub
		}
	}
	n.until = one.time + min(uint64(one.TTL)*uint64(time.Second), longestTTL) + nameSlack
	if one.netns != 0 {
		for _, address := range one.Addresses {
			r.lookups.names.learn(placeKey{one.netns, address}, n)
		}
	}
	r.countLookup(one, who)
}

// countLookup counts an answer, or a name that a client sent, in its fold.
func (r *recorder) countLookup(one *answered, who *party) {
	f := r.foldOfAnswer(one, who)
	if f == nil {
		r.ledger.lookups.dropped++
		return
	}
	if f.Count == 0 {
		f.BootTime = one.time
	}
	f.BootTime, f.LastBootTime = min(f.BootTime, one.time), max(f.LastBootTime, one.time)
	f.Count++
	r.lookups.folds.renew(f, one.time)
}

// foldOfAnswer finds or makes the fold of an answer, nil if there is no memory for one.
func (r *recorder) foldOfAnswer(one *answered, who *party) *fold {
	l, in := r.lookups, r.lookups.folds
	k := foldKey{shape: l.shapes[0], question: one.Name, answers: one.Answers, asked: one.kind, rcode: one.Rcode}
	if one.tcp {
		k.shape = l.shapes[1]
	}
	if who == nil {
		who, k.netns = l.nobody, one.netns
		if who.share.gone {
			who.share = r.resolver.share(who.owner)
		}
	} else {
		c := bpf.Connect{Key: who.keyOf(), BootTime: one.time}
		k.life, k.task = who.owner.life, r.resolver.whole(&c, who)
	}
	k.remote = r.resolver.endpoint(l.sockaddr(netip.AddrPortFrom(one.from, one.port)), who)
	if f := in.folds[k]; f != nil {
		return f
	}
	if in.crowded(k.life) || k.remote == nil {
		k.remote, k.question, k.answers, k.asked, k.rcode = nil, "", "", 0, 0
		if f := in.folds[k]; f != nil {
			return f
		}
		if len(in.folds) >= mostFolds+mostCrowds {
			return nil
		}
	}
	f := &fold{key: k, who: who, expires: one.time + foldTime}
	f.Task, f.Shape, f.Remote, f.Window, f.NetNS = k.task, k.shape, k.remote, one.time, uint64(k.netns)
	f.Lookup = &store.Lookup{Name: k.question, Type: k.asked, Rcode: k.rcode, Answers: k.answers, TTL: -1}
	if k.question != "" && k.answers != "" && k.asked < store.LookupSNI {
		f.Lookup.TTL = int64(one.TTL)
	}
	in.folds[k] = f
	in.of[k.life]++
	return f
}

// keyOf is the key of the process.
func (p *party) keyOf() bpf.ProcessKey {
	k := p.task.Process.Key
	return bpf.ProcessKey{Tgid: k.Tgid, Start: k.StartBoot, Exec: k.Exec}
}

// sockaddr is that of a server. It is good until the next call.
func (l *lookups) sockaddr(server netip.AddrPort) []byte {
	b, address := l.server[:0], server.Addr()
	if address.Is4() {
		b = binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(b, unix.AF_INET), server.Port())
		b = append(append(b, address.AsSlice()...), make([]byte, 8)...)
	} else {
		b = binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(b, unix.AF_INET6), server.Port())
		b = append(append(append(b, 0, 0, 0, 0), address.AsSlice()...), 0, 0, 0, 0)
	}
	l.server = b
	return b
}
