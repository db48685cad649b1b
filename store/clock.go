package store

import (
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapelog"
)

// ReadAnchor reads both clocks, at one instant.
func ReadAnchor(kind string) (Anchor, error) {
	boot, real, err := tapelog.ReadClock()
	return Anchor{Boot: boot, Real: real, Kind: kind}, err
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
