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
			return nil
		}
		var partly *store.PartlyWritten
		if errors.As(err, &partly) {
			w.committed.Add(b.cut(partly.Connections))
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

// cut takes the first connections off a batch, which are on the disk, and returns how many of them are rows.
func (b *batch) cut(connections int) (rows uint64) {
	for _, c := range b.Connections[:connections] {
		if !c.Update {
			rows++
			b.events -= max(1, uint64(c.Count))
		}
	}
	b.rows -= rows
	b.Connections = b.Connections[connections:]
	return rows
}

// drop counts a batch as lost. What it had to tell beside attempts the next one will tell.
func (w *writer) drop(b *batch, err error) {
	w.log.Error("batch lost", "connects", b.events, "error", err)
	w.ledger.drop(drops{b.events, b.rows, b.outcomes, b.sockets})
	w.mu.Lock()
	w.carried.Gaps = append(w.carried.Gaps, b.Gaps...)
	w.carried.Anchors = append(w.carried.Anchors, b.Anchors...)
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
