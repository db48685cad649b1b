package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// An answer is over soon, and most answers need less memory than the limit. So no garbage is collected below the limit.
// When live memory reaches the limit, the collector would run all the time and free nothing. So the limit then moves up,
// ahead of the memory in use.

// answerMemory is the memory, in bytes, that an answer takes before garbage is collected. SQLite's memory is not counted.
const answerMemory = 88 << 20

// collector moves the limit of Go's memory.
type collector struct {
	mu      sync.Mutex
	over    bool
	least   int64
	limit   int64 // the limit before, and percent the percentage before
	percent int
}

// collectLate collects no garbage below a limit, in bytes. restore sets the limits from before.
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

// beside is the memory of Go outside its heap, in bytes: the limit is on both.
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
