package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
)

// describe checks that the database is a segment of ours and reads what it says
// of itself.
func (seg *openSegment) describe(conn *sqlite.Conn) error {
	err := seg.check(conn)
	if err == nil {
		err = seg.read(conn)
	}
	return failure.Classify(err)
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
		info.From, info.To = wall(seg.created, q.ColumnInt64(12)), wall(q.ColumnInt64(4), q.ColumnInt64(13))
		info.LastBatch = time.Unix(0, q.ColumnInt64(5)).UTC()
		info.Host, info.MachineID = q.ColumnText(7), q.ColumnText(8)
		incompatible = q.ColumnInt64(9)
		seg.previous, seg.counts = q.ColumnInt(10), q.ColumnInt64(11)
		if q.ColumnIsNull(11) {
			seg.counts = -1
		}
		return nil
	}, `SELECT number, tape_id, state, created_ns, heartbeat_ns, committed_ns, batches,
		host, machine_id, incompatible, previous_number, previous_batches,
		coalesce((SELECT offset_ns FROM clock WHERE id <= created_ns ORDER BY id DESC LIMIT 1), 0),
		coalesce((SELECT offset_ns FROM clock WHERE id <= heartbeat_ns ORDER BY id DESC LIMIT 1), 0)
		FROM segment`)
	switch {
	case err != nil:
		return fmt.Errorf("read segment: %w", err)
	case rows != 1:
		return fmt.Errorf("%w: it does not describe itself", failure.ErrDamaged)
	case incompatible&^knownIncompatible != 0:
		return fmt.Errorf("%w: feature bits %x", failure.ErrIncompatible, incompatible)
	}
	if seg.boots, err = readBoots(conn); err != nil {
		return err
	}
	last := &seg.boots[len(seg.boots)-1]
	info.BootID, info.Kernel = last.bootID, last.kernel
	return errors.Join(seg.readEnds(conn), seg.readRuns(conn))
}

// readEnds reads the times of the first and of the last connection.
func (seg *openSegment) readEnds(conn *sqlite.Conn) error {
	err := execOn(conn, func(q *sqlite.Stmt) error {
		seg.info.First, seg.info.Last = q.ColumnInt64(0), q.ColumnInt64(1)
		return nil
	}, `SELECT coalesce((SELECT min(id) FROM connection), 0), coalesce((SELECT max(id) FROM connection), -1)`)
	if err != nil {
		return fmt.Errorf("read connections: %w", err)
	}
	return nil
}

// readRuns reads who recorded, with what, and what was counted.
func (seg *openSegment) readRuns(conn *sqlite.Conn) (err error) {
	if seg.runs, err = readAccounts(conn); err != nil {
		return err
	}
	info := &seg.info
	if len(seg.runs) > 0 {
		last := &seg.runs[len(seg.runs)-1]
		info.Version, info.Backend, info.BlindSpots = last.version, last.backend, splitLines(last.blindSpots)
		info.RunStart = wallTime(last.start)
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
