package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// describe checks that the database is a segment of ours and reads what it says
// of itself.
func (seg *openSegment) describe(conn *sqlite.Conn) error {
	err := seg.check(conn)
	if err == nil {
		err = seg.read(conn)
	}
	return classify(err)
}

func (seg *openSegment) check(conn *sqlite.Conn) (err error) {
	if seg.info.SchemaVersion, err = schemaVersion(conn, "main"); err != nil {
		return err
	}
	return checkSchema(conn, "main", seg.info.SchemaVersion)
}

func (seg *openSegment) read(conn *sqlite.Conn) error {
	info := &seg.info
	rows := 0
	var incompatible int64
	err := execOn(conn, func(q *sqlite.Stmt) error {
		rows++
		info.Number, info.TapeID, info.State = q.ColumnInt(0), q.ColumnText(1), q.ColumnText(2)
		seg.created, seg.batches = q.ColumnInt64(3), q.ColumnInt64(6)
		info.From, info.To = wall(seg.created, q.ColumnInt64(14)), wall(q.ColumnInt64(4), q.ColumnInt64(15))
		info.LastBatch = time.Unix(0, q.ColumnInt64(5)).UTC()
		info.Host, info.MachineID = q.ColumnText(7), q.ColumnText(8)
		info.BootID, info.Kernel = q.ColumnText(9), q.ColumnText(10)
		incompatible = q.ColumnInt64(11)
		seg.previous, seg.counts = q.ColumnInt(12), q.ColumnInt64(13)
		if q.ColumnIsNull(13) {
			seg.counts = -1
		}
		return nil
	}, `SELECT number, tape_id, state, created_ns, heartbeat_ns, committed_ns, batches,
		host, machine_id, boot_id, kernel, incompatible, previous_number, previous_batches,
		coalesce((SELECT offset_ns FROM clock WHERE id <= created_ns ORDER BY id DESC LIMIT 1), 0),
		coalesce((SELECT offset_ns FROM clock WHERE id <= heartbeat_ns ORDER BY id DESC LIMIT 1), 0)
		FROM segment`)
	switch {
	case err != nil:
		return fmt.Errorf("read segment: %w", err)
	case rows != 1:
		return fmt.Errorf("%w: it does not describe itself", ErrDamaged)
	case incompatible&^knownIncompatible != 0:
		return fmt.Errorf("%w: feature bits %x", ErrIncompatible, incompatible)
	}
	return errors.Join(seg.readRuns(conn), seg.readCounters(conn))
}

// readRuns reads the newest run: who recorded, with what.
func (seg *openSegment) readRuns(conn *sqlite.Conn) error {
	info := &seg.info
	err := execOn(conn, func(q *sqlite.Stmt) error {
		info.Version, info.Backend = q.ColumnText(0), q.ColumnText(1)
		info.BlindSpots = splitLines(q.ColumnText(2))
		info.RunStart = wall(q.ColumnInt64(3), q.ColumnInt64(4))
		return nil
	}, `SELECT version, backend, blind_spots, start_ns,
		coalesce((SELECT offset_ns FROM clock WHERE id <= start_ns ORDER BY id DESC LIMIT 1), 0)
		FROM run ORDER BY id DESC LIMIT 1`)
	if err != nil {
		return fmt.Errorf("read runs: %w", err)
	}
	return nil
}

// readCounters sums over the runs what was counted while this segment was the
// active one.
func (seg *openSegment) readCounters(conn *sqlite.Conn) error {
	seg.info.Counters = Counters{}
	err := execOn(conn, func(q *sqlite.Stmt) error {
		seg.info.Counters[q.ColumnText(0)] = uint64(max(0, q.ColumnInt64(1)))
		return nil
	}, `SELECT name, sum(value - first) FROM counter GROUP BY name`)
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	return nil
}

// splitLines is the reverse of escapeLines, except that the lines stay escaped.
func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
