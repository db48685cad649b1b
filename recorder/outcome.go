package recorder

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// What becomes of a connection comes through a ring of its own: before the record of its connect, where that waits for the
// answer, or at any time after it. Both have the same ID. Where the row still is in the open batch, it gets its outcome
// there; where it is written already, the outcome is an ending of the open batch, which the tape joins to it.

const (
	// connectComes bounds how long after an outcome the record of its connect may come: connect(2) returns when it is
	// established. One that comes later is joined to it by the tape.
	connectComes = uint64(250 * time.Millisecond)
	// mostPending bounds the outcomes that wait for their connects, and mostEndings those of a batch.
	mostPending = 32 << 10
	mostEndings = 64 << 10
	// mostRowless bounds the attempts of which is known that they have no row.
	mostRowless = 32 << 10
	// blankOutcomes is how many outcomes memory is made for at once.
	blankOutcomes = 64
	// fateBytes is the memory that the outcome of a row takes, its place in a map included.
	fateBytes = int64(unsafe.Sizeof(store.Outcome{})) + 64

	protocolTCP   = 6
	protocolMPTCP = 262
)

// fates are what the recorder knows of outcomes. It belongs to the draining goroutine.
type fates struct {
	rows    map[bpf.ID]int                 // rows of the open batch that have not ended
	errors  udpErrors                      // which connects errors are about that came back to UDP sockets
	rowless *generations[bpf.ID, struct{}] // attempts that are counted in a row of several, which has no outcome
	pending map[bpf.ID]pendingFate         // outcomes whose row is not in the open batch
	locals  *generations[netip.Addr, *store.Endpoint]
	shapes  *generations[finalShape, *store.Shape]
	mark    bpf.Mark    // where the ring was read when nothing waited last
	record  bpf.Outcome // reused
	blanks  []store.Outcome
}

// pendingFate is the latest outcome of a connection, and how many records it was made of.
type pendingFate struct {
	last  bpf.Outcome
	since uint64 // ns CLOCK_BOOTTIME
	n     uint64
}

// finalShape is a shape with what a connection of it came to.
type finalShape struct {
	shape *store.Shape
	final store.Final
}

func newFates() *fates {
	return &fates{rows: map[bpf.ID]int{}, rowless: newGenerations[bpf.ID, struct{}](mostRowless), errors: newUDPErrors(), pending: map[bpf.ID]pendingFate{}, locals: newGenerations[netip.Addr, *store.Endpoint](shapeCache), shapes: newGenerations[finalShape, *store.Shape](shapeCache)}
}

// hasOutcome tells whether the kernel tells what becomes of an attempt.
func hasOutcome(c *bpf.Connect) bool {
	return (c.SocketFamily == unix.AF_INET || c.SocketFamily == unix.AF_INET6) && (c.Protocol == protocolTCP || c.Protocol == protocolMPTCP)
}

// waits tells whether there are outcomes that have been read and are in no batch yet.
func (f *fates) waits() bool { return len(f.pending)+len(f.errors.waiting) > 0 }

// drainOutcomes takes what is in the outcome ring, up to the first that came after a time.
func (r *recorder) drainOutcomes(now, until uint64) error {
	r.markOutcomes()
	o := &r.fates.record
	for o.BootTime = 0; o.BootTime <= until; {
		ok, err := r.src.ReadOutcome(o)
		if err != nil {
			return fmt.Errorf("read outcome ring: %w", err)
		}
		if !ok {
			return nil
		}
		if !o.Accepted {
			r.takeOutcome(o, now)
			continue
		}
		r.ledger.outcomes.received++
		if err := r.endAccepted(o, now); err != nil {
			return err
		}
	}
	return nil
}

// markOutcomes notes where the ring was read, if nothing waits that was read before: the next recorder need not read it again.
func (r *recorder) markOutcomes() {
	if r.heritage != nil && !r.fates.waits() {
		_, r.fates.mark, _ = r.heritage.Marks()
	}
}

func (r *recorder) takeOutcome(o *bpf.Outcome, now uint64) {
	r.ledger.outcomes.received++
	if o.Kind == bpf.OutcomeError {
		r.takeError(o, now)
	} else {
		r.placeOutcome(o, now)
	}
}

// placeOutcome gives an outcome to the row of its connect, if that is in the open batch, or keeps it for the tape.
func (r *recorder) placeOutcome(o *bpf.Outcome, now uint64) {
	if i, ok := r.fates.rows[o.Attempt]; ok {
		if o.Kind == bpf.OutcomeClosed {
			delete(r.fates.rows, o.Attempt)
		}
		if r.queue.fate(i, func(row *store.Connection) { r.fates.give(row, o) }) {
			r.ledger.outcomes.stored++
			r.queue.open.outcomes++
		} else {
			r.ledger.outcomes.coalesced++
		}
		return
	}
	if _, ok := r.fates.rowless.get(o.Attempt); ok {
		r.ledger.outcomes.coalesced++
		return
	}
	p, known := r.fates.pending[o.Attempt]
	if !known {
		if len(r.fates.pending) >= mostPending {
			r.ledger.outcomes.dropped++
			return
		}
		p.since = now
	}
	p.last = *o
	p.n++
	r.fates.pending[o.Attempt] = p
}

// renounce notes that an attempt has no row for what becomes of it.
func (r *recorder) renounce(c *bpf.Connect) {
	if hasOutcome(c) {
		r.ledger.outcomes.coalesced += r.fates.pending[c.ID()].n
		delete(r.fates.pending, c.ID())
		r.fates.rowless.put(c.ID(), struct{}{})
	}
}

// expect gives a row what is known of it already, before it is queued.
func (r *recorder) expect(c *bpf.Connect, row *store.Connection) (n uint64) {
	if len(r.fates.pending) == 0 {
		return 0
	}
	p, ok := r.fates.pending[c.ID()]
	if !ok {
		return 0
	}
	delete(r.fates.pending, c.ID())
	r.markOutcomes()
	r.fates.give(row, &p.last)
	return p.n
}

// remember notes that the newest row of the open batch is that of an attempt, or that there is none.
func (r *recorder) remember(c *bpf.Connect, row *store.Connection, n uint64, in outcome) {
	if in != added {
		r.ledger.outcomes.coalesced += n
		r.fates.rowless.put(c.ID(), struct{}{})
		return
	}
	r.ledger.outcomes.stored += n
	r.queue.open.outcomes += n
	if row.Outcome == nil || row.Outcome.Duration < 0 {
		r.fates.rows[c.ID()] = len(r.queue.open.Connections) - 1
	}
}

// endings moves the outcomes that no connect came for into the open batch; all: whatever their age.
func (r *recorder) endings(now uint64, all bool) {
	r.joinErrors(now, all)
	for id, p := range r.fates.pending {
		if !all && p.since+connectComes > now {
			continue
		}
		delete(r.fates.pending, id)
		if len(r.queue.open.Endings) >= mostEndings || r.queue.shares.all.pressed() {
			r.ledger.outcomes.dropped += p.n
			continue
		}
		r.queue.open.Endings = append(r.queue.open.Endings, r.ending(&p.last))
		r.queue.open.outcomes += p.n
		r.ledger.outcomes.stored += p.n
	}
}

// give has a row say an outcome, instead of an earlier one of the same connection.
func (f *fates) give(row *store.Connection, o *bpf.Outcome) {
	if row.Outcome == nil {
		row.Outcome = f.blank()
	}
	f.tell(row.Outcome, o)
	row.Shape = f.shape(row.Shape, finalOf(o))
}

// shape returns one shape for all rows that are alike.
func (f *fates) shape(of *store.Shape, final store.Final) *store.Shape {
	if of.Final == final {
		return of
	}
	k := finalShape{of, final}
	if s, ok := f.shapes.get(k); ok {
		return s
	}
	s := *of
	s.Final = final
	f.shapes.put(k, &s)
	return &s
}

// blank returns memory for an outcome. It is made for many at once: those of a batch are all given back together.
func (f *fates) blank() *store.Outcome {
	if len(f.blanks) == 0 {
		f.blanks = make([]store.Outcome, blankOutcomes)
	}
	out := &f.blanks[0]
	f.blanks = f.blanks[1:]
	return out
}

// tell writes what the tape is told of an outcome.
func (f *fates) tell(out *store.Outcome, o *bpf.Outcome) {
	*out = store.Outcome{
		Local: f.local(o.Local.Addr()), LocalPort: o.Local.Port(), Established: store.Unmeasured, Duration: store.Unmeasured,
		Sent: store.Unmeasured, Received: store.Unmeasured, Retransmits: store.Unmeasured, RTT: store.Unmeasured,
	}
	if o.Established > 0 && !o.Adopted() {
		out.Established = int64(o.Established - o.Attempt.BootTime)
	}
	if o.RTT > 0 {
		out.RTT = int64(o.RTT)
	}
	switch since := int64(o.BootTime - o.Attempt.BootTime); o.Kind {
	case bpf.OutcomeClosed:
		out.Duration = since
	case bpf.OutcomeOpen:
		out.SeenOpen = max(since, 1000) // of one that was found now
	case bpf.OutcomeError:
		out.Duration = since
		return
	default:
		return
	}
	out.Retransmits = int64(o.Retransmits)
	if o.Established > 0 {
		out.Sent, out.Received = int64(o.Sent), int64(o.Received)
		out.ClosedBy = closedBy(o)
	}
}

// closedBy returns who sent the first FIN, or the RST where there was none.
func closedBy(o *bpf.Outcome) store.ClosedBy {
	switch {
	case o.ClosedBy == bpf.ClosedByLocal, o.ClosedBy == bpf.ClosedByNobody && o.Errno == 0 && o.Kind == bpf.OutcomeClosed:
		return store.ClosedByLocal
	case o.ClosedBy == bpf.ClosedByRemote, o.Errno == uint16(unix.ECONNRESET):
		return store.ClosedByRemote
	}
	return store.ClosedByNobody
}

// finalOf returns what a connection came to. A socket that is reset by its own side (SO_LINGER 0, a close with unread data,
// connect to AF_UNSPEC) has no error when it closes.
func finalOf(o *bpf.Outcome) store.Final {
	switch {
	case o.Kind == bpf.OutcomeConnecting:
		return store.FinalUnknown
	case o.Kind == bpf.OutcomeError:
		return store.Final(o.Errno)
	case o.Kind != bpf.OutcomeClosed:
		return store.FinalEstablished
	case o.Errno != 0:
		return store.Final(o.Errno)
	case o.Established == 0:
		return store.FinalAborted
	case o.From == bpf.TCPEstablished, o.From == bpf.TCPCloseWait:
		return store.Final(unix.ECONNABORTED)
	}
	return store.FinalEstablished
}

// local returns the endpoint of an address, with no port.
func (f *fates) local(a netip.Addr) *store.Endpoint {
	if e, ok := f.locals.get(a); ok {
		return e
	}
	raw := make([]byte, unix.SizeofSockaddrInet6)
	if a.Is4() {
		raw = raw[:unix.SizeofSockaddrInet4]
		raw[0] = unix.AF_INET
		copy(raw[4:], a.AsSlice())
	} else {
		raw[0] = unix.AF_INET6
		copy(raw[8:], a.AsSlice())
	}
	e := decodeSockaddr(raw)
	f.locals.put(a, &e)
	return &e
}
