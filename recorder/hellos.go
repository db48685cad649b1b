package recorder

import (
	"strings"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/recorder/dns"
	"github.com/conntape/conntape/recorder/hello"
	"github.com/conntape/conntape/store"
)

// What a client says first on a connection names its server better than any answer of DNS: its row gets that name, if it still is in the
// open batch, and so nearly always. It is a row of the view lookups in any case, which has the name where the first byte came later:
// after a long time, or because of a handshake that took longer than until the next commit.

const (
	// helloWaits bounds how long a name waits for the record of its connect, which may be read after it.
	helloWaits = uint64(250 * time.Millisecond)
	// mostHellos bounds the names that wait.
	mostHellos = 4 << 10
)

// hellos are names that clients sent. They belong to the draining goroutine.
type hellos struct {
	streams hello.Streams[bpf.ID]
	rows    map[bpf.ID]namable // TCP rows of the open batch; nil: nobody looks at what clients say
	waiting map[bpf.ID]helloOf // names whose connect has not been read
	late    uint64             // names whose row was written before, or is none of its own
}

// namable is a row of the open batch, and whose it is.
type namable struct {
	row int
	who *party
}

// helloOf is a name, and when it was read.
type helloOf struct {
	hello.Said
	since uint64 // ns CLOCK_BOOTTIME
}

func newHellos(on bool) hellos {
	if !on {
		return hellos{}
	}
	return hellos{rows: map[bpf.ID]namable{}, waiting: map[bpf.ID]helloOf{}}
}

// readHello takes what a client sent first, or a part of it.
func (r *recorder) readHello(a *bpf.Answer) {
	h := &r.lookups.hellos
	broken := h.streams.Broken()
	said, ok := h.streams.Add(a.Attempt, int(a.Sequence), a.Bytes)
	r.ledger.lookups.bad += h.streams.Broken() - broken
	if !ok {
		return
	}
	one := answered{
		Message: dns.Message{Name: said.Name, Answers: offered(said)}, kind: store.LookupSNI, port: a.Port,
		time: a.BootTime, cookie: a.Cookie, key: a.Key, netns: a.NetNS, tcp: true, from: a.From,
	}
	if said.Kind == hello.Host {
		one.kind = store.LookupHost
	}
	r.countLookup(&one, r.askerOf(&one))
	switch row, known := h.rows[a.Attempt]; {
	case known && r.nameRow(row, said):
		delete(h.rows, a.Attempt)
	case !known && h.rows != nil && len(h.waiting) < mostHellos:
		h.waiting[a.Attempt] = helloOf{said, r.boot()}
	default:
		h.late++
	}
}

// offered is what else a ClientHello says.
func offered(said hello.Said) string {
	var parts []string
	for protocol := range strings.FieldsSeq(said.ALPN) {
		parts = append(parts, "alpn:"+protocol)
	}
	if said.ECH {
		parts = append(parts, "ech")
	}
	return strings.Join(parts, " ")
}

// nameRow has a row of the open batch say a name. False: it is that of several connects.
func (r *recorder) nameRow(at namable, said hello.Said) bool {
	return r.queue.fate(at.row, func(row *store.Connection) { row.Remote = r.resolver.nameAs(row.Remote, said, at.who) })
}

// awaitHello notes the newest row of the open batch, that of a connect: the name that its client sends is to be its.
func (r *recorder) awaitHello(c *bpf.Connect, who *party) {
	h := &r.lookups.hellos
	if h.rows == nil {
		return
	}
	at := namable{len(r.queue.open.Connections) - 1, who}
	if one, ok := h.waiting[c.ID()]; ok {
		delete(h.waiting, c.ID())
		if !r.nameRow(at, one.Said) {
			h.late++
		}
		return
	}
	h.rows[c.ID()] = at
}

// expireHellos gives up the connects of names that have waited.
func (h *hellos) expire(now uint64) {
	for id, one := range h.waiting {
		if one.since+helloWaits < now {
			delete(h.waiting, id)
			h.late++
		}
	}
}

// nameAs returns an address with the name that a client gave it, which counts for more than others.
func (r *resolver) nameAs(e *store.Endpoint, said hello.Said, p *party) *store.Endpoint {
	source := store.NameSNI
	if said.Kind == hello.Host {
		source = store.NameHTTP
	}
	r.key = append(append(r.key[:0], e.Raw...), 0)
	if e.Requested != nil {
		r.key = append(r.key, e.Requested.Raw...)
	}
	r.key = append(append(append(r.key, 0), source...), said.Name...)
	if known, ok := getBytes(r.named, r.key); ok {
		return known
	}
	with := &store.Endpoint{
		Family: e.Family, Address: e.Address, Port: e.Port, Raw: e.Raw, Requested: e.Requested, Names: said.Name, NameSource: source,
	}
	if !r.table.names.take(p.owner, endpointName(with)) {
		return e
	}
	r.fresh += endpointSize(with)
	r.named.put(string(r.key), with)
	return with
}
