package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// logClocks are the clocks at one instant, as the log notes them with each leaf:
// an anchor between realtime and boottime.
type logClocks struct {
	boot      uint64 // CLOCK_BOOTTIME, ns
	real      int64  // CLOCK_REALTIME, ns since the Unix epoch
	suspended uint64 // CLOCK_BOOTTIME minus CLOCK_MONOTONIC, ns
	sync      string // what the kernel says of its discipline
}

// sleepGrain is the least time asleep that is told from the time between two
// readings of a clock, ns.
const sleepGrain = 100_000_000

// readLogClocks reads the clocks.
func readLogClocks() (logClocks, error) {
	a, err := ReadAnchor("")
	if err != nil {
		return logClocks{}, err
	}
	c := logClocks{boot: a.Boot, real: a.Real}
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return logClocks{}, fmt.Errorf("read clock: %w", err)
	}
	if awake := uint64(mono.Nano()); c.boot > awake {
		c.suspended = (c.boot - awake) / sleepGrain * sleepGrain
	}
	c.sync = "synchronized"
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		c.sync = "unsynchronized"
	}
	return c, nil
}
