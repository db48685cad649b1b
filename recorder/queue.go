package recorder

import (
	"sync"
	"sync/atomic"
	"unsafe"

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
	events uint64 // attempts that its rows stand for; updates are none
	rows   uint64 // of these rows
	cost   int64  // bytes accounted for it
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
// Memory is bounded. Below half of the bound each attempt has its own row. From there on attempts with the same
// mergeKey as a row of the open batch are counted in that row, with the first and the last time. At the bound, what
// cannot be counted so is refused.
type queue struct {
	bound int64
	used  atomic.Int64 // bytes accounted for all that is not written yet
	open  *batch
	merge map[mergeKey]int // rows of the open batch that were made past half of the bound
	last  int              // rows of the batch before the open one: the best guess at how many there will be

	spares chan []store.Connection

	mu      sync.Mutex
	ready   []*batch
	writing bool
	closed  bool
	wake    chan struct{} // holds one token when there is something to take
}

func newQueue(bound int64) *queue {
	return &queue{
		bound:  bound,
		open:   &batch{},
		merge:  map[mergeKey]int{},
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

// add takes an attempt. extra is the memory that it needs beside the row. One that will be asked for by name later, by
// an update, must keep its own row: it is not merged.
func (q *queue) add(row *store.Connection, extra int64, mergeable bool) outcome {
	used := q.used.Load()
	if used <= q.bound/2 {
		q.append(row, rowBytes+extra)
		q.open.events++
		q.open.rows++
		return added
	}
	cost := rowBytes + mergeBytes + extra
	k := mergeKey{row.Task, row.Remote, row.Local, row.Shape}
	if mergeable {
		if i, ok := q.merge[k]; ok {
			mergeRow(&q.open.Connections[i], row)
			q.open.events++
			return counted
		}
	}
	if used+cost > q.bound {
		return refused
	}
	if mergeable {
		q.merge[k] = len(q.open.Connections)
	}
	q.append(row, cost)
	q.open.events++
	q.open.rows++
	return added
}

// mergeRow counts another attempt in a row. What they do not share is no longer said.
func mergeRow(into, row *store.Connection) {
	into.Count = max(into.Count, 1) + 1
	if row.BootTime < into.BootTime { // a thread's attempts come in the order of their end
		into.BootTime, row.BootTime = row.BootTime, into.BootTime
	}
	into.LastBootTime = max(into.LastBootTime, into.BootTime, row.BootTime)
	if into.FD != row.FD {
		into.FD = -1
	}
	if into.Cookie != row.Cookie {
		into.Cookie = 0
	}
}

// update takes a row that changes an earlier one. It is refused at the bound.
func (q *queue) update(row *store.Connection) outcome {
	if q.used.Load()+rowBytes > q.bound {
		return refused
	}
	q.append(row, rowBytes)
	return added
}

func (q *queue) append(row *store.Connection, cost int64) {
	b := q.open
	if b.Connections == nil {
		select {
		case b.Connections = <-q.spares:
		default:
			b.Connections = make([]store.Connection, 0, min(max(q.last, 1024), spareLimit))
		}
	}
	b.Connections = append(b.Connections, *row)
	b.cost += cost
	q.used.Add(cost)
}

// tight tells whether attempts are being counted together to save memory.
func (q *queue) tight() bool {
	return q.used.Load() > q.bound/2
}

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
	q.used.Add(-b.cost)
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
	q.mu.Unlock()
}
