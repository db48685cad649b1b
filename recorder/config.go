package recorder

import (
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/recorder/hash"
)

// config is what of Options the loops need, with their intervals.
type config struct {
	batchAge     time.Duration
	batchRows    int
	buffer       int64
	single       bool // accepted connections are not folded
	exclude      []Exclusion
	hash         *hash.Options // nil: no programs are read
	lookups      bool          // names that are looked up
	hellos       bool          // names that clients send
	tape         *tapeShares
	names        *names
	tick         time.Duration // of housekeeping
	flightAge    time.Duration // after which an attempt that has not returned is written
	refreshEvery time.Duration // between two looks at open sockets
	sendsEvery   time.Duration // in which sends without connect are counted together
	heartbeat    time.Duration // longest time without a batch
	lookEvery    time.Duration // between two looks at the hooks
	probeEvery   time.Duration // between two connects of our own
	sleepAfter   time.Duration // without an attempt, the recorder waits to be woken by the next
	stopWithin   time.Duration // of the last drain: whoever stops a service waits for it. What is left then is lost
	retryDelays  []time.Duration
}

func configOf(o Options) config {
	c := config{
		batchAge: o.BatchAge, batchRows: o.BatchRows, buffer: o.Buffer, single: o.Events.EachAccept, exclude: o.Exclude, lookups: o.Events.Names, hellos: o.Events.TLS || o.Events.HTTP,
		tape: newTapeShares(o.Limits.MaxBytes, new(atomic.Bool)), names: newNames(o.Limits.MaxBytes, new(atomic.Int64)),
		tick: time.Second, flightAge: time.Second, heartbeat: 10 * time.Second, refreshEvery: refreshEvery, sendsEvery: sendsEvery, lookEvery: lookEvery, probeEvery: probeEvery,
		sleepAfter: 5 * time.Second, stopWithin: 10 * time.Second, retryDelays: defaultRetries(),
	}
	if every := o.Service.ProbeEvery; every > 0 {
		c.probeEvery = every
	}
	if !o.NoHashes {
		c.hash = &hash.Options{}
	}
	if c.batchAge == 0 {
		c.batchAge = DefaultBatchAge
	}
	if c.batchRows == 0 {
		c.batchRows = DefaultBatchRows
	}
	if c.buffer == 0 {
		c.buffer = DefaultBuffer
	}
	return c
}
