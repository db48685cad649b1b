package recorder

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/store"
)

// defaultRetries are the waits before a batch that could not be written is tried again, by now in another segment. When
// they are used up the batch is lost; the queue fills meanwhile, and draining goes on.
func defaultRetries() []time.Duration {
	return []time.Duration{time.Second, 5 * time.Second, 20 * time.Second}
}

// writer takes batches from the queue and writes them. It belongs to the writing goroutine, but for its atomics.
type writer struct {
	*recorder
	failing   atomic.Bool // the last try did not work
	committed atomic.Uint64
	stopping  chan struct{} // closed when waiting is over

	mu      sync.Mutex
	carried store.Batch // gaps and anchors of batches that were dropped
}

// run writes until the queue is closed and empty.
func (w *writer) run() {
	for b := w.queue.take(); b != nil; b = w.queue.take() {
		begun := time.Now()
		if err := w.write(b); err != nil {
			w.drop(b, err)
		}
		w.keep(b.shares)
		w.ledger.batches.Add(1)
		w.ledger.batchTime.Add(uint64(time.Since(begun)))
		w.queue.done(b)
	}
}

// keep has the tape keep who wrote how much of it.
func (w *writer) keep(shares []byte) {
	if shares == nil {
		return
	}
	if err := w.sink.KeepShares(shares); err != nil {
		w.log.Warn("shares of the tape not kept: a restart would forget who wrote how much of it", "error", err)
	}
}

// write tries until the batch is on disk or the delays are used up.
func (w *writer) write(b *batch) error {
	for try := 0; ; try++ {
		err := w.sink.Append(b.Batch)
		w.failing.Store(err != nil)
		if err == nil {
			w.committed.Add(b.rows)
			if b.handover != nil {
				w.heritage.Written(b.handover)
			}
			return nil
		}
		var partly *store.PartlyWritten
		if errors.As(err, &partly) {
			w.committed.Add(b.cut(partly.Part))
		}
		if try == len(w.config.retryDelays) {
			return err
		}
		w.log.Warn("batch not written", "rows", b.rows, "try", try+1, "error", err)
		select {
		case <-time.After(w.config.retryDelays[try]):
		case <-w.stopping:
			try = len(w.config.retryDelays) - 1
		}
	}
}

// cut takes off a batch what is on the disk, and returns how many rows of connections that is.
func (b *batch) cut(part store.Part) (rows uint64) {
	outcomes := uint64(part.Endings) // at least: one may be made of two records
	for _, c := range b.Connections[:part.Connections] {
		if !c.Update {
			rows++
			b.events -= max(1, uint64(c.Count))
		}
		if c.Outcome != nil {
			outcomes++
		}
	}
	for _, e := range b.Sockets[:part.Sockets] {
		if e.Lookup != nil {
			b.lookups -= min(b.lookups, e.Count)
		} else {
			b.sockets -= min(b.sockets, e.Count)
		}
	}
	b.rows -= rows
	b.outcomes -= min(b.outcomes, outcomes)
	b.Cut(part)
	return rows
}

// drop counts a batch as lost. What it had to tell beside attempts the next one will tell.
func (w *writer) drop(b *batch, err error) {
	w.log.Error("batch lost", "connects", b.events, "error", err)
	w.ledger.drop(drops{b.events, b.rows, b.outcomes, b.sockets, b.lookups})
	w.mu.Lock()
	w.carried.Gaps = append(w.carried.Gaps, b.Gaps...)
	w.carried.Anchors = append(w.carried.Anchors, b.Anchors...)
	w.carried.Files = append(w.carried.Files, b.Files...)
	w.carried.Scripts = append(w.carried.Scripts, b.Scripts...)
	w.mu.Unlock()
}

// takeCarried returns what dropped batches left.
func (w *writer) takeCarried() store.Batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.carried
	w.carried = store.Batch{}
	return c
}
