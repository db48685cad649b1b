package recorder

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// Connections that are accepted are folded: those that a process accepts at one address from one peer within foldTime are one row
// of the view, whatever their number; so is what else a process does to sockets of one kind and address. It is written when the first was accepted, and again, with what has come since, every
// refoldAfter and at the end.

const (
	foldTime    = uint64(10 * time.Minute)
	refoldAfter = uint64(time.Minute)
	// mostFolds bounds the folds in memory, and mostFoldsEach those of a process: its other peers are one fold without an address.
	// When there are mostFolds, who has foldsForAll gets no more with an address, so that others still do.
	mostFolds     = 16 << 10
	mostFoldsEach = mostFolds / 8
	mostCrowds    = 8 << 10
	foldsForAll   = 64
	// mostAwaited bounds the accepted connections whose end is awaited. The kernel follows half as many.
	mostAwaited = 64 << 10
	// eventBytes is the memory that an event in a batch takes.
	eventBytes = int64(unsafe.Sizeof(store.SocketEvent{}))
)

// foldKey tells folds apart.
type foldKey struct {
	life          lifeKey
	task          *store.Task
	shape         *store.Shape
	local, remote *store.Endpoint // remote nil: peers that are not kept
	peer          uint32          // pid
	window        uint64          // of a single row: when it was accepted; 0: folded

	question, answers string // of answers by DNS, and of what clients say; question "": of any
	asked             uint32
	rcode             uint16
	netns             uint32 // where nobody knows who asked
}

// fold is a row of the view, and of it what is not written yet.
type fold struct {
	store.SocketEvent
	key     foldKey
	who     *party
	due     uint64 // when it is to be written; 0: nothing is new, and it is not in fresh
	expires uint64
}

// inbound is what the recorder knows of connections that were accepted. It belongs to the draining goroutine.
type inbound struct {
	single  bool // each has a row of its own
	folds   map[foldKey]*fold
	last    *fold            // of folds, the one that was found last; nil: none
	of      map[lifeKey]int  // folds of a process
	awaited map[bpf.ID]*fold // TCP connections that have not ended
	fresh   map[*fold]struct{}
	record  bpf.Connect // reused
	peer    []byte      // likewise
}

func newInbound(single bool) *inbound {
	return &inbound{single: single, folds: map[foldKey]*fold{}, of: map[lifeKey]int{}, awaited: map[bpf.ID]*fold{}, fresh: map[*fold]struct{}{}}
}

// drainEvents takes what is in the ring of events, up to the first that came after a time.
func (r *recorder) drainEvents(now, until uint64) error {
	in := r.inbound
	for in.record.BootTime = 0; in.record.BootTime <= until; {
		ok, err := r.src.ReadEvent(&in.record)
		if err != nil {
			return fmt.Errorf("read event ring: %w", err)
		}
		if !ok {
			return nil
		}
		r.ledger.events.received++
		r.takeEvent(&in.record, now)
	}
	return nil
}

// takeEvent counts an event in its fold.
func (r *recorder) takeEvent(c *bpf.Connect, now uint64) {
	if isPacketSocket(c) {
		r.packetSocketOpened(now)
	}
	f := r.foldOf(c)
	if f == nil {
		r.ledger.events.dropped++
		return
	}
	if f.Count == 0 {
		f.BootTime = c.BootTime
	}
	f.BootTime, f.LastBootTime = min(f.BootTime, c.BootTime), max(f.LastBootTime, c.BootTime)
	f.Count++
	r.inbound.renew(f, now)
	if c.Via == bpf.ViaAccept && hasOutcome(c) && len(r.inbound.awaited) < mostAwaited {
		r.inbound.awaited[c.ID()] = f
	}
}

// foldOf finds or makes the fold of an event, nil if there is no memory for one.
func (r *recorder) foldOf(c *bpf.Connect) *fold {
	in := r.inbound
	peer := uint32(c.Addrlen)
	c.Addrlen = 0
	who := r.resolver.party(c)
	k := foldKey{life: who.owner.life, task: who.task, shape: r.resolver.shape(c), peer: peer, window: c.BootTime}
	if !in.single || c.Via != bpf.ViaAccept {
		k.task, k.window = r.resolver.whole(c, who), 0
	}
	crowded := in.crowded(k.life)
	k.local = r.localOf(c, who, crowded)
	remote := in.peerOf(c)
	if len(remote) > 0 {
		if _, known := getBytes(r.resolver.endpoints, remote); known || !crowded {
			k.remote = r.resolver.endpoint(remote, who)
		}
	}
	if in.last != nil && in.last.key == k {
		return in.last
	}
	if f := in.folds[k]; f != nil {
		in.last = f
		return f
	}
	if crowded || len(remote) > 0 && k.remote == nil {
		k.task, k.remote, k.peer, k.window = r.resolver.whole(c, who), nil, 0, 0
		if c.Via != bpf.ViaAccept {
			k.local = nil
		}
		if f := in.folds[k]; f != nil {
			return f
		}
		if len(in.folds) >= mostFolds+mostCrowds {
			return nil
		}
	}
	f := &fold{key: k, who: who, expires: c.BootTime + foldTime}
	f.Task, f.Shape, f.Local, f.Remote, f.PeerPID, f.Window = k.task, k.shape, k.local, k.remote, k.peer, c.BootTime
	in.folds[k] = f
	in.of[k.life]++
	return f
}

// localOf returns the local address of an event, nil if it has none. One that nobody had yet is not kept for who has crowded.
func (r *recorder) localOf(c *bpf.Connect, who *party, crowded bool) *store.Endpoint {
	if p, ok := c.Place(); ok {
		return r.resolver.place(c.Local, p, who)
	}
	if len(c.Local) == 0 {
		return nil
	}
	if _, known := getBytes(r.resolver.endpoints, c.Local); crowded && !known && c.Via != bpf.ViaAccept {
		return nil
	}
	return r.resolver.endpoint(c.Local, who)
}

// peerOf returns the address by which the peer of an event is known: where several are counted, without its port, which is another each time.
func (in *inbound) peerOf(c *bpf.Connect) []byte {
	if c.Via != bpf.ViaAccept || in.single || len(c.Remote) < 4 || c.SocketFamily == unix.AF_UNIX {
		return c.Remote
	}
	in.peer = append(in.peer[:0], c.Remote...)
	in.peer[2], in.peer[3] = 0, 0
	return in.peer
}

// crowded tells whether somebody has so many folds that his next has no address.
func (in *inbound) crowded(k lifeKey) bool {
	return in.of[k] >= mostFoldsEach || len(in.folds) >= mostFolds && in.of[k] >= foldsForAll || len(in.folds) >= mostFolds+mostCrowds/2
}

// renew notes that there is something to write.
func (in *inbound) renew(f *fold, now uint64) {
	if f.due == 0 {
		f.due = now + refoldAfter
		in.fresh[f] = struct{}{}
	}
}

// endAccepted counts the end of a connection in the fold that it was accepted in.
func (r *recorder) endAccepted(o *bpf.Outcome, now uint64) error {
	in := r.inbound
	r.ledger.outcomes.coalesced++
	f := in.awaited[o.Attempt]
	for _, until := range [...]uint64{o.BootTime, forever} { // its event may have come since that ring was read; CPUs differ a little
		if f != nil {
			break
		}
		if err := r.drainEvents(now, until); err != nil {
			return err
		}
		f = in.awaited[o.Attempt]
	}
	if f == nil {
		return nil
	}
	delete(in.awaited, o.Attempt)
	if f.Count == 0 && f.Ended == 0 {
		f.BootTime = o.BootTime
	}
	f.Ended++
	f.Sent, f.Received = f.Sent+o.Sent, f.Received+o.Received
	f.Longest = max(f.Longest, o.BootTime-min(o.BootTime, o.Attempt.BootTime))
	if finalOf(o) != store.FinalEstablished {
		f.Failed++
	}
	in.renew(f, now)
	return nil
}

// writeFolds puts what is due into the open batch; all: whatever is new.
func (r *recorder) writeFolds(now uint64, all bool) {
	l := r.ledger
	r.writeFoldsOf(r.inbound, &r.queue.open.sockets, &l.events.stored, &l.events.dropped, now, all)
	r.writeFoldsOf(r.lookups.folds, &r.queue.open.lookups, &l.lookups.stored, &l.lookups.dropped, now, all)
}

// writeFoldsOf counts what it puts there in queued and stored, and else in dropped. A fold that is written the first time is due at once.
func (r *recorder) writeFoldsOf(in *inbound, queued, stored, dropped *uint64, now uint64, all bool) {
	for f := range in.fresh {
		first := f.Window == f.BootTime && f.Count > 0
		if !all && !first && f.key.window == 0 && now < f.due && now < f.expires {
			continue
		}
		if f.who.share.gone {
			f.who.share = r.resolver.share(f.who.owner)
		}
		if !all && r.queue.full(f.who.share) && now < f.expires {
			continue
		}
		delete(in.fresh, f)
		f.due = 0
		if r.queue.full(f.who.share) {
			*dropped += f.Count
		} else {
			bytes := eventBytes + int64(len(f.key.question)+len(f.key.answers))
			r.queue.charge(f.who.share, bytes, bytes)
			r.queue.open.Sockets = append(r.queue.open.Sockets, f.SocketEvent)
			*queued += f.Count
			*stored += f.Count
		}
		f.BootTime, f.LastBootTime, f.Count, f.Ended, f.Failed, f.Sent, f.Received, f.Longest = 0, 0, 0, 0, 0, 0, 0, 0
		if f.key.window != 0 {
			in.forget(f)
		}
	}
}

// forget has the next event begin another fold. What was accepted in this one still ends in it.
func (in *inbound) forget(f *fold) {
	if in.folds[f.key] != f {
		return
	}
	in.last = nil
	delete(in.folds, f.key)
	if in.of[f.key.life]--; in.of[f.key.life] == 0 {
		delete(in.of, f.key.life)
	}
}

// expireFolds forgets folds whose time is over.
func (in *inbound) expireFolds(now uint64) {
	for _, f := range in.folds {
		if now >= f.expires {
			in.forget(f)
		}
	}
}

// whole returns the task of a process as a whole, whichever of its threads did something.
func (r *resolver) whole(c *bpf.Connect, p *party) *store.Task {
	if p.lump == nil {
		var row store.Connection
		r.lump(c, p, &row)
	}
	return p.lump
}
