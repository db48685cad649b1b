package recorder

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

const (
	rowBytes   = int64(unsafe.Sizeof(store.Connection{}))
	mergeBytes = int64(unsafe.Sizeof(mergeKey{})) + 32 // an entry of the map of mergeable rows
	spareRows  = 1                                     // slices kept for the next batch, beside that being written
	spareLimit = 256 << 10                             // rows; a larger slice is not worth its memory
)

// batch is what becomes one transaction.
type batch struct {
	store.Batch
	events   uint64   // attempts that its rows stand for; updates are none
	rows     uint64   // of these rows
	outcomes uint64   // records of outcomes in it
	sockets  uint64   // what its socket events stand for, without answers by DNS
	lookups  uint64   // answers by DNS that are in it
	charges  []charge // what it takes of whose memory
	shares   []byte   // of the tape, to be kept; nil: as they are
	handover *bpf.Handover
}

// charge is a part of a batch's memory.
type charge struct {
	share *share
	bytes int64
}

// mergeKey tells attempts that a row can count together: same thread state, same addresses, same outcome.
type mergeKey struct {
	task          *store.Task
	remote, local *store.Endpoint
	shape         *store.Shape
}

// queue stands between draining, which must not wait, and writing, which may wait for the disk. The draining goroutine
// fills the open batch, which nobody else sees, and hands it over as a whole.
//
// Memory is bounded, and shared (see share): a process that floods meets the end of its own share, never of another's.
// Below half of that each attempt has its own row. From there on attempts with the same mergeKey as a row of the open
// batch are counted in that row, with the first and the last time. At the end of the share, what cannot be counted so is
// counted in one row for all that the process did, without addresses. Only somebody without the memory for that row is
// refused.
type queue struct {
	shares *shares
	tape   *tapeShares
	open   *batch
	merge  map[mergeKey]int // rows of the open batch that others can be counted in
	lumps  map[*share]int   // rows of the open batch without addresses, by process
	last   int              // rows of the batch before the open one: the best guess at how many there will be

	spares chan []store.Connection

	mu      sync.Mutex
	ready   []*batch
	written []charge // whose memory is to be given back; by the draining goroutine, which alone reads shares
	writing bool
	closed  bool
	free    atomic.Bool   // written is not empty
	wake    chan struct{} // holds one token when there is something to take
}

func newQueue(bound int64, tape *tapeShares) *queue {
	return &queue{
		shares: newShares(bound),
		tape:   tape,
		open:   &batch{},
		merge:  map[mergeKey]int{},
		lumps:  map[*share]int{},
		spares: make(chan []store.Connection, spareRows),
		wake:   make(chan struct{}, 1),
	}
}

// outcome of adding a row.
type outcome int

const (
	added   outcome = iota // the row is in the batch
	counted                // it is counted in another row
	refused                // there is no memory for it
)

// add takes an attempt. extra is what it needs beside the row. One that will be asked for by name
// later, by an update, must keep its own row: it is not merged. Who is refused may still be counted by lump.
func (q *queue) add(row *store.Connection, who *share, extra need, mergeable bool) outcome {
	cost := rowBytes + extra.memory
	if who.credit >= cost {
		who.credit -= cost
		return q.append(row)
	}
	k := mergeKey{row.Task, row.Remote, row.Local, row.Shape}
	if mergeable && len(q.merge) > 0 {
		if i, ok := q.merge[k]; ok {
			q.count(i, row)
			return counted
		}
	}
	q.giveBack()
	room := who.room()
	if room > who.used && room >= cost && !q.shares.all.pressed() && !q.tape.pressed(who) {
		q.lend(who, room, cost, extra.tape)
		return q.append(row)
	}
	if room < cost+mergeBytes || q.tape.over(who) {
		return refused
	}
	if mergeable {
		q.merge[k] = len(q.open.Connections)
	}
	q.charge(who, cost+mergeBytes, rowBytes/2+extra.tape)
	return q.append(row)
}

// mostCredit bounds what is lent at once, in bytes.
const mostCredit = 8 << 10

// lend charges somebody who has room for more than cost, so that the next rows need not look through the tree: up to
// double of what he needed so far.
func (q *queue) lend(who *share, room, cost, tape int64) {
	n := max(cost, min(room/16, mostCredit, who.open))
	q.charge(who, n, tape+(n-cost+rowBytes)/2)
	who.credit += n - cost
}

// lump counts an attempt in the row of all that its process did and that found no memory. row has no addresses, and
// extra is what it needs beside itself. Somebody who has a row already may always have this one
// too, of what is free for everybody: it is small, and there is one a process and batch.
func (q *queue) lump(row *store.Connection, who *share, extra need) outcome {
	if i, ok := q.lumps[who]; ok {
		q.count(i, row)
		return counted
	}
	q.giveBack()
	cost := rowBytes + mergeBytes + extra.memory
	if who.room() < cost && (who.used == 0 || q.shares.all.room() < cost) || q.tape.over(who) && who.tape.used == 0 || q.tape.spent(who) {
		return refused
	}
	q.lumps[who] = len(q.open.Connections)
	q.charge(who, cost, rowBytes/2+extra.tape)
	return q.append(row)
}

// giveBack takes what was written off its owners' shares.
func (q *queue) giveBack() {
	if !q.free.Load() {
		return
	}
	q.mu.Lock()
	written := q.written
	q.written = nil
	q.free.Store(false)
	q.mu.Unlock()
	for _, c := range written {
		c.share.charge(-c.bytes)
	}
}

// leastRow is the memory without which no row with a new address is made, in bytes.
const leastRow = 1024

// count counts the attempts of a row in a row of the open batch.
func (q *queue) count(i int, row *store.Connection) {
	q.open.events += uint64(max(row.Count, 1))
	mergeRow(&q.open.Connections[i], row)
}

// mergeRow counts the attempts of another row in a row. What they do not share is no longer said.
func mergeRow(into, row *store.Connection) {
	into.Count = max(into.Count, 1) + max(row.Count, 1)
	into.LastBootTime = max(into.LastBootTime, into.BootTime, row.LastBootTime, row.BootTime)
	into.BootTime = min(into.BootTime, row.BootTime) // a thread's attempts come in the order of their end
	into.Outcome = sumSent(into.Outcome, row.Outcome)
	if into.FD != row.FD {
		into.FD = -1
	}
	if into.Cookie != row.Cookie {
		into.Cookie = 0
	}
}

// sumSent is what became of the attempts of two rows: of sends without connect the bytes, of anything else it is not said.
func sumSent(a, b *store.Outcome) *store.Outcome {
	sent := func(o *store.Outcome) bool { return o != nil && o.Sent >= 0 && *o == *sentOf(o.Sent) }
	if !sent(a) || !sent(b) {
		return nil
	}
	return sentOf(a.Sent + b.Sent)
}

// update takes a row that changes an earlier one.
func (q *queue) update(row *store.Connection, who *share) outcome {
	q.giveBack()
	if who.room() < rowBytes {
		return refused
	}
	q.charge(who, rowBytes, rowBytes/2)
	q.insert(row)
	return added
}

// fate has a row of the open batch say what became of its connection. False: it is the row of several, which have none.
func (q *queue) fate(i int, give func(*store.Connection)) bool {
	row := &q.open.Connections[i]
	if row.Count > 1 {
		return false
	}
	if len(q.merge) > 0 { // nothing is to be counted in it from now on
		k := mergeKey{row.Task, row.Remote, row.Local, row.Shape}
		if at, ok := q.merge[k]; ok && at == i {
			delete(q.merge, k)
		}
	}
	give(row)
	return true
}

// append puts a new row into the open batch.
func (q *queue) append(row *store.Connection) outcome {
	q.insert(row)
	q.open.events += uint64(max(row.Count, 1))
	q.open.rows++
	return added
}

func (q *queue) insert(row *store.Connection) {
	b := q.open
	if b.Connections == nil {
		select {
		case b.Connections = <-q.spares:
		default:
			b.Connections = make([]store.Connection, 0, min(max(q.last, 1024), spareLimit))
		}
	}
	b.Connections = append(b.Connections, *row)
}

// charge has the open batch hold memory of somebody's share, of which so many bytes will be written to the tape.
func (q *queue) charge(who *share, bytes, tape int64) {
	if who.open == 0 {
		q.open.charges = append(q.open.charges, charge{share: who})
	}
	who.open += bytes
	who.charge(bytes)
	q.tape.charge(who, tape)
}

// full tells whether somebody will have no row with a new address.
func (q *queue) full(who *share) bool { return who.room() < leastRow || q.tape.over(who) }

// find returns the share of a process.
func (q *queue) find(o owner) *share {
	who := q.shares.find(o)
	if before := who.tape; before == nil || before.gone {
		who.tape = q.tape.find(o)
		if before != nil { // it was forgotten for being small, and is known all the same
			who.tape.used = max(who.tape.used, before.used)
		}
	}
	return who
}

// tight tells whether somebody's attempts are being counted together to save memory, which only rows of the open batch
// allow.
func (q *queue) tight() bool { return len(q.merge) > 0 || len(q.lumps) > 0 }

// percent is how much of the memory is taken.
func (q *queue) percent() int64 { return q.shares.all.used * 100 / q.shares.all.bound }

// idle tells whether the writer waits for something to do.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ready) == 0 && !q.writing
}

// push hands the open batch over and opens another.
func (q *queue) push() {
	b := q.open
	q.open = &batch{}
	q.last = len(b.Connections)
	clear(q.merge)
	clear(q.lumps)
	for i := range b.charges {
		c := &b.charges[i]
		c.bytes, c.share.open, c.share.credit = c.share.open, 0, 0
	}
	q.mu.Lock()
	q.ready = append(q.ready, b)
	q.mu.Unlock()
	q.signal()
}

// close lets take return nil once everything has been taken.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for a batch. It returns nil when the queue is closed and empty. The batch counts as being written until
// done is called.
func (q *queue) take() *batch {
	for {
		q.mu.Lock()
		if len(q.ready) > 0 {
			b := q.ready[0]
			q.ready[0] = nil
			q.ready = q.ready[1:]
			q.writing = true
			q.mu.Unlock()
			return b
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.wake
	}
}

// done gives a batch's memory back.
func (q *queue) done(b *batch) {
	rows := b.Connections
	b.Connections = nil
	if rows != nil && cap(rows) <= spareLimit {
		clear(rows)
		select {
		case q.spares <- rows[:0]:
		default:
		}
	}
	q.mu.Lock()
	q.writing = false
	q.written = append(q.written, b.charges...)
	q.free.Store(true)
	q.mu.Unlock()
}
