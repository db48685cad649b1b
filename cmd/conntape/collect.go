package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// An answer is over soon, and most of them need less memory than they may take: nothing is collected before that is
// reached. A limit that stayed there would have the collector at work all the time, for nothing, where as much as that is
// in use; so it is moved on, ahead of what is.

// answerMemory is what an answer takes before garbage is collected, bytes; what SQLite takes is not in it.
const answerMemory = 88 << 20

// collector moves the limit of Go's memory.
type collector struct {
	mu      sync.Mutex
	over    bool
	least   int64
	limit   int64 // that was set before, and percent likewise
	percent int
}

// collectLate has no garbage collected below a limit, bytes. restore puts things back as they were.
func collectLate(least int64) (restore func()) {
	c := &collector{limit: debug.SetMemoryLimit(-1), percent: debug.SetGCPercent(-1), least: least}
	c.set(0)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.over = true
		debug.SetGCPercent(c.percent)
		debug.SetMemoryLimit(c.limit)
	}
}

// beside is what Go takes beside its heap, bytes: the limit is on both.
const beside = 16 << 20

// set sets the limit to a quarter above the heap that is in use, bytes, and does so again after the next collection.
func (c *collector) set(live int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	debug.SetMemoryLimit(min(c.limit, max(c.least, live+live/4+beside)))
	type garbage struct{ _ *byte }
	runtime.AddCleanup(new(garbage), func(c *collector) {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		c.set(int64(sample[0].Value.Uint64()))
	}, c)
}
