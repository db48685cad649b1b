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

// insertAnchor adds a row to table clock: from a.Boot on, the wall clock is the segment clock plus the stored offset.
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

// at converts CLOCK_BOOTTIME to the segment clock, ns since the Unix epoch.
func (s *activeSegment) at(boot uint64) int64 { return int64(boot) + s.offset }
