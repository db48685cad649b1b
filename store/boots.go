package store

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
)

// A segment goes on over restarts of the host. Each boot is a row of the table
// boot, with the offset of the segment clock from CLOCK_BOOTTIME, which begins
// anew with it. Boots do not overlap on the segment clock: all of a boot, from its
// CLOCK_BOOTTIME 0 on, is later than all that was recorded in the one before.

// bootSpan is one boot of the host within a segment.
type bootSpan struct {
	id     int64  // row of table boot
	bootID string // as stored, escaped
	kernel string
	offset int64 // segment clock minus CLOCK_BOOTTIME, ns
	first  int64 // recording began in it, segment clock
	last   int64 // recording was last alive in it; the newest boot has the segment's heartbeat
}

// at returns the time on the segment clock of a time on CLOCK_BOOTTIME in this boot.
func (b *bootSpan) at(boot int64) int64 { return boot + b.offset }

// readBoots returns the boots of a segment in order. A segment without one is damaged.
func readBoots(conn *sqlite.Conn) ([]bootSpan, error) {
	var boots []bootSpan
	err := execOn(conn, func(q *sqlite.Stmt) error {
		boots = append(boots, bootSpan{q.ColumnInt64(0), q.ColumnText(1), q.ColumnText(2), q.ColumnInt64(3), q.ColumnInt64(4), q.ColumnInt64(5)})
		return nil
	}, `SELECT id, boot_id, kernel, offset_ns, first_ns, coalesce(last_ns, (SELECT heartbeat_ns FROM segment)) FROM boot ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read boots: %w", err)
	}
	if len(boots) == 0 {
		return nil, fmt.Errorf("%w: it does not say in which boot it was recorded", failure.ErrDamaged)
	}
	return boots, nil
}

// loadBoot reads the newest boot: that of who wrote last.
func (s *segment) loadBoot() error {
	boots, err := readBoots(s.conn)
	if err != nil {
		return err
	}
	last := boots[len(boots)-1]
	s.boot, s.bootID, s.offset, s.floor = last.id, last.bootID, last.offset, last.offset
	// Its first clock row says how far the host's clock was behind the segment's.
	return s.query(func(q *sqlite.Stmt) error { s.floor += min(0, q.ColumnInt64(0)); return nil },
		`SELECT offset_ns FROM clock WHERE id = ? AND kind = ?`, last.offset, anchorBoot)
}

// putBoot writes the boot that s.bootID and s.offset are of, in which recording
// begins at first, on the segment clock.
func (s *segment) putBoot(kernel string, first int64) error {
	err := s.exec(`INSERT INTO boot (boot_id, kernel, offset_ns, first_ns) VALUES (?, ?, ?, ?)`,
		escape.String(s.bootID, nil), escape.String(kernel, nil), s.offset, first)
	s.boot = s.conn.LastInsertRowID()
	return err
}

// anchorBoot is the kind of the clock row at CLOCK_BOOTTIME 0 of a boot that is not
// the first of its segment: processes can be older than the recorder.
const anchorBoot = "boot"

// beginBoot goes on with the segment after a restart of the host. The run before
// must not have been ended yet: that takes the times of both boots.
func (s *segment) beginBoot(o *WriterOptions) error {
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

// latest is the latest time, on the segment clock, that anything in the segment has.
func (s *segment) latest() (ns int64, err error) {
	err = s.query(func(q *sqlite.Stmt) error { ns = max(s.heartbeat, s.rows.maxID, q.ColumnInt64(0)); return nil },
		`SELECT max(coalesce((SELECT max(id) FROM clock), 0), coalesce((SELECT max(last_ns) FROM repeat), 0),
			coalesce((SELECT max(max(coalesce(from_ns, 0), coalesce(to_ns, 0))) FROM gap), 0))`)
	return ns, err
}
