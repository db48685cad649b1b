package segment

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
)

// Describe checks that the database is a segment and reads its description.
func (seg *Segment) Describe(conn *sqlite.Conn) error {
	err := seg.check(conn)
	if err == nil {
		err = seg.read(conn)
	}
	return failure.Classify(err)
}

func (seg *Segment) check(conn *sqlite.Conn) (err error) {
	if seg.Info.SchemaVersion, err = SchemaVersion(conn); err != nil {
		return err
	}
	return CheckSchema(conn, seg.Info.SchemaVersion)
}

func (seg *Segment) read(conn *sqlite.Conn) error {
	info := &seg.Info
	rows := 0
	var incompatible int64
	err := Exec(conn, func(q *sqlite.Stmt) error {
		rows++
		info.Number, info.TapeID, info.State = q.ColumnInt(0), q.ColumnText(1), q.ColumnText(2)
		seg.Created, seg.Batches = q.ColumnInt64(3), q.ColumnInt64(6)
		info.From, info.To = wall(seg.Created, q.ColumnInt64(12)), wall(q.ColumnInt64(4), q.ColumnInt64(13))
		info.LastBatch = time.Unix(0, q.ColumnInt64(5)).UTC()
		info.Host, info.MachineID = q.ColumnText(7), q.ColumnText(8)
		incompatible = q.ColumnInt64(9)
		seg.Previous, seg.Counts = q.ColumnInt(10), q.ColumnInt64(11)
		if q.ColumnIsNull(11) {
			seg.Counts = -1
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
	case incompatible&^KnownIncompatible != 0:
		return fmt.Errorf("%w: feature bits %x", failure.ErrIncompatible, incompatible)
	}
	if seg.Boots, err = ReadBoots(conn); err != nil {
		return err
	}
	last := &seg.Boots[len(seg.Boots)-1]
	info.BootID, info.Kernel = last.BootID, last.kernel
	return errors.Join(seg.readEnds(conn), seg.readEndings(conn), seg.readRuns(conn))
}

// readEnds reads the times of the first and last connection.
func (seg *Segment) readEnds(conn *sqlite.Conn) error {
	err := Exec(conn, func(q *sqlite.Stmt) error {
		seg.Info.First, seg.Info.Last = q.ColumnInt64(0), q.ColumnInt64(1)
		return nil
	}, `SELECT coalesce((SELECT min(id) FROM connection), 0), coalesce((SELECT max(id) FROM connection), -1)`)
	if err != nil {
		return fmt.Errorf("read connections: %w", err)
	}
	return nil
}

// readEndings reads the range of ids in table ending, whose connections are in earlier segments.
func (seg *Segment) readEndings(conn *sqlite.Conn) error {
	err := Exec(conn, func(q *sqlite.Stmt) error {
		seg.Endings = IDSpan{q.ColumnInt64(0), q.ColumnInt64(1)}
		return nil
	}, `SELECT coalesce(min(id), 0), coalesce(max(id), -1) FROM ending WHERE cookie <> 0`)
	if err != nil {
		return fmt.Errorf("read endings: %w", err)
	}
	return nil
}

// IDSpan is a span of ids; it is empty if First > Last.
type IDSpan struct{ First, Last int64 }

// readRuns reads the runs of recorders and their counters.
func (seg *Segment) readRuns(conn *sqlite.Conn) (err error) {
	if seg.Runs, err = readAccounts(conn); err != nil {
		return err
	}
	info := &seg.Info
	if len(seg.Runs) > 0 {
		last := &seg.Runs[len(seg.Runs)-1]
		info.Version, info.Backend, info.BlindSpots = last.Version, last.Backend, SplitLines(last.BlindSpots)
		info.RunStart = WallTime(last.Start)
	}
	return nil
}

// SplitLines is the reverse of escapeLines, but leaves the lines escaped.
func SplitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
