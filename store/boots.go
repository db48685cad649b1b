package store

import (
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// A segment continues after a reboot. Each boot is a row of table boot, with the offset of the segment clock from
// CLOCK_BOOTTIME, which restarts. Boots do not overlap on the segment clock: all of a boot, from CLOCK_BOOTTIME 0 on, is
// later than everything in the previous one.

// loadBoot reads the newest boot, of the last recorder.
func (s *activeSegment) loadBoot() error {
	boots, err := segment.ReadBoots(s.conn)
	if err != nil {
		return err
	}
	last := boots[len(boots)-1]
	s.boot, s.bootID, s.offset, s.floor = last.ID, last.BootID, last.Offset, last.Offset
	// The first clock row is the difference between the host's clock and the segment's.
	return s.query(func(q *sqlite.Stmt) error { s.floor += min(0, q.ColumnInt64(0)); return nil },
		`SELECT offset_ns FROM clock WHERE id = ? AND kind = ?`, last.Offset, anchorBoot)
}

// putBoot writes a boot with s.bootID and s.offset. Recording in it begins at first, on the segment clock.
func (s *activeSegment) putBoot(kernel string, first int64) error {
	err := s.exec(`INSERT INTO boot (boot_id, kernel, offset_ns, first_ns) VALUES (?, ?, ?, ?)`,
		escape.String(s.bootID, nil), escape.String(kernel, nil), s.offset, first)
	s.boot = s.conn.LastInsertRowID()
	return err
}

// anchorBoot is the kind of the clock row at CLOCK_BOOTTIME 0 of later boots in a segment: processes can be older than
// the recorder.
const anchorBoot = "boot"

// beginBoot continues the segment after a reboot. Call it before endRun, which needs the times of both boots.
func (s *activeSegment) beginBoot(o *WriterOptions) error {
	latest, err := s.latest()
	if err != nil {
		return err
	}
	if err := s.exec(`UPDATE boot SET last_ns = ? WHERE last_ns IS NULL`, s.heartbeat); err != nil {
		return err
	}
	s.floor = o.Now.Real - int64(o.Now.Boot)
	s.bootID, s.offset = o.BootID, max(s.floor, latest+1)
	if err := s.putBoot(o.Kernel, s.at(o.Now.Boot)); err != nil {
		return err
	}
	zero := o.Now
	zero.Boot, zero.Real, zero.Kind = 0, s.floor, anchorBoot
	return s.insertAnchor(zero)
}

// latest returns the latest time in the segment, on the segment clock.
func (s *activeSegment) latest() (ns int64, err error) {
	err = s.query(func(q *sqlite.Stmt) error { ns = max(s.heartbeat, s.rows.maxID, q.ColumnInt64(0)); return nil },
		`SELECT max(coalesce((SELECT max(id) FROM clock), 0), coalesce((SELECT max(last_ns) FROM repeat), 0),
			coalesce((SELECT max(max(coalesce(from_ns, 0), coalesce(to_ns, 0))) FROM gap), 0))`)
	return ns, err
}
