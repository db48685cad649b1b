package recorder

import (
	"strings"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/recorder/dns"
	"github.com/conntape/conntape/recorder/hello"
	"github.com/conntape/conntape/store"
)

// What a client says first on a connection names its server better than any answer of DNS: its row gets that name. If the row still
// is in the open batch, it gets it there; if it is written already, because the handshake or the wait for the first byte took longer
// than until the next commit, the name is a naming of the open batch, which the tape gives to the row.

const (
	// helloWaits bounds how long a name waits for the record of its connect, which may be read after it.
	helloWaits = uint64(250 * time.Millisecond)
	// mostHellos bounds the names that wait, and those of a batch that the tape is to give to rows.
	mostHellos = 4 << 10
	// lateName is what the tape takes to give a row a name, without the name, in bytes: another endpoint, and what it was before.
	lateName = 256
)

// hellos are names that clients sent. They belong to the draining goroutine.
type hellos struct {
	streams hello.Streams[bpf.ID]
	rows    map[bpf.ID]namable // TCP rows of the open batch; nil: nobody looks at what clients say
	waiting map[bpf.ID]helloOf // names whose connect has not been read
}

// namable is a row of the open batch, and whose it is.
type namable struct {
	row int
	who *party
}

// helloOf is a name, when it was read, who said it, and to which port.
type helloOf struct {
	hello.Said
	since uint64 // ns CLOCK_BOOTTIME
	owner owner
	port  uint16
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
	who := r.askerOf(&one)
	r.countLookup(&one, who)
	if h.rows == nil {
		return
	}
	if row, known := h.rows[a.Attempt]; known {
		if r.nameRow(row, said) {
			delete(h.rows, a.Attempt)
		} else {
			r.ledger.lookups.refused++
		}
		return
	}
	late := helloOf{Said: said, since: r.boot(), port: a.Port}
	if who != nil {
		late.owner = who.owner
	}
	if len(h.waiting) < mostHellos {
		h.waiting[a.Attempt] = late
	} else {
		r.nameLater(a.Attempt, &late)
	}
}

// nameLater has the tape give a name to the row of a connect that was written before.
func (r *recorder) nameLater(id bpf.ID, late *helloOf) {
	b := r.queue.open
	if len(b.Namings) >= mostHellos || !r.table.names.take(late.owner, lateName+2*int64(len(late.Name))) {
		r.ledger.lookups.refused++
		return
	}
	r.ledger.lookups.late++
	b.Namings = append(b.Namings, store.Naming{Connect: id.BootTime, Tid: id.Tid, Port: int32(late.port), Name: late.Name, Source: sourceOf(late.Said)})
}

// sourceOf tells where a name is from.
func sourceOf(said hello.Said) string {
	if said.Kind == hello.Host {
		return store.NameHTTP
	}
	return store.NameSNI
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
			r.ledger.lookups.refused++
		}
		return
	}
	h.rows[c.ID()] = at
}

// expireHellos takes the connects of names that have waited, or of all, for written.
func (r *recorder) expireHellos(now uint64, all bool) {
	for id, one := range r.lookups.hellos.waiting {
		if all || one.since+helloWaits < now {
			delete(r.lookups.hellos.waiting, id)
			r.nameLater(id, &one)
		}
	}
}

// nameAs returns an address with the name that a client gave it, which counts for more than others.
func (r *resolver) nameAs(e *store.Endpoint, said hello.Said, p *party) *store.Endpoint {
	source := sourceOf(said)
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
