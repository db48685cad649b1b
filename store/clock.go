package store

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// ReadAnchor reads both clocks as close together as it can: boottime between
// two readings of realtime, whose middle it takes.
func ReadAnchor(kind string) (Anchor, error) {
	var before, boot, after unix.Timespec
	for _, c := range []struct {
		clock int32
		ts    *unix.Timespec
	}{{unix.CLOCK_REALTIME, &before}, {unix.CLOCK_BOOTTIME, &boot}, {unix.CLOCK_REALTIME, &after}} {
		if err := unix.ClockGettime(c.clock, c.ts); err != nil {
			return Anchor{}, fmt.Errorf("read clock %d: %w", c.clock, err)
		}
	}
	first, last := before.Nano(), after.Nano()
	return Anchor{Boot: uint64(boot.Nano()), Real: first + (last-first)/2, Kind: kind}, nil
}

// insertAnchor adds a row to the table clock: from a.Boot on, the wall clock is
// the segment clock plus what is stored.
func (s *activeSegment) insertAnchor(a Anchor) error {
	at := s.at(a.Boot)
	kind := a.Kind
	if kind == "" {
		kind = "tick"
	}
	s.wallStep = a.Real - at
	return s.exec(`INSERT OR REPLACE INTO clock (id, offset_ns, kind, sync) VALUES (?, ?, ?, ?)`,
		at, a.Real-at, escape.String(kind, nil), segment.TextOrNull(a.Sync))
}

// at returns the time on the segment clock, ns since the Unix epoch, of a time
// on CLOCK_BOOTTIME.
func (s *activeSegment) at(boot uint64) int64 { return int64(boot) + s.offset }
