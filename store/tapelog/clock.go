package tapelog

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Clocks are the clocks at one instant. Each leaf has them; they relate realtime to boottime.
type Clocks struct {
	Boot      uint64 // CLOCK_BOOTTIME, ns
	Real      int64  // CLOCK_REALTIME, ns since the Unix epoch
	Suspended uint64 // CLOCK_BOOTTIME minus CLOCK_MONOTONIC, ns
	Sync      string // the kernel's synchronization state
}

// sleepGrain is the shortest sleep that a difference between two readings shows, ns.
const sleepGrain = 100_000_000

// ReadClocks reads the clocks.
func ReadClocks() (Clocks, error) {
	boot, real, err := ReadClock()
	if err != nil {
		return Clocks{}, err
	}
	c := Clocks{Boot: boot, Real: real}
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return Clocks{}, fmt.Errorf("read clock: %w", err)
	}
	if awake := uint64(mono.Nano()); c.Boot > awake {
		c.Suspended = (c.Boot - awake) / sleepGrain * sleepGrain
	}
	c.Sync = "synchronized"
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		c.Sync = "unsynchronized"
	}
	return c, nil
}

// ReadClock reads CLOCK_BOOTTIME and CLOCK_REALTIME, ns, at nearly the same instant: it reads boottime between two
// readings of realtime and returns the middle of these.
func ReadClock() (boottime uint64, realtime int64, err error) {
	var before, boot, after unix.Timespec
	for _, c := range []struct {
		clock int32
		ts    *unix.Timespec
	}{{unix.CLOCK_REALTIME, &before}, {unix.CLOCK_BOOTTIME, &boot}, {unix.CLOCK_REALTIME, &after}} {
		if err := unix.ClockGettime(c.clock, c.ts); err != nil {
			return 0, 0, fmt.Errorf("read clock %d: %w", c.clock, err)
		}
	}
	first, last := before.Nano(), after.Nano()
	return uint64(boot.Nano()), first + (last-first)/2, nil
}
