package proof

import (
	"context"
	"fmt"
	"path/filepath"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// CauseSalvaged is the cause of the gap in a salvaged segment.
const CauseSalvaged = "salvaged"

// lostOwner is the user of a lost thread state: (uid_t)-1, which no process has.
const lostOwner = 1<<32 - 1

// complete makes a segment of the salvaged rows: it adds lost rows that others refer to, as unknown, and a gap for the
// loss.
func (s *salvager) complete(ctx context.Context, from string) error {
	file := filepath.Base(from)
	if err := s.describeSegment(file); err != nil {
		return fmt.Errorf("describe segment: %w", err)
	}
	for _, fill := range []string{
		`INSERT INTO task (id, process, tid, comm, uid, gid, euid)
			SELECT DISTINCT task, 0, 0, '?', ?1, ?1, ?1 FROM (SELECT task FROM connection UNION SELECT task FROM event WHERE task IS NOT NULL) WHERE task NOT IN (SELECT id FROM task)`,
		`INSERT INTO process (id, boot, tgid, start_boot_ns, exec_number, cmdline_truncated, exe_deleted, exe_memfd, source, ancestry, batch)
			SELECT DISTINCT process, 0, 0, 0, 0, 0, 0, 0, 'unknown', '?', 0 FROM task WHERE process NOT IN (SELECT id FROM process) AND ?1 > 0`,
		`INSERT INTO endpoint (id, family, address, port, raw)
			SELECT DISTINCT id, 65535, '?', -1, CAST(id AS BLOB) FROM (SELECT remote AS id FROM connection UNION SELECT local FROM connection
				UNION SELECT requested FROM endpoint WHERE requested <> 0 UNION SELECT remote FROM event UNION SELECT local FROM event)
			WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM endpoint) AND ?1 > 0`,
		`INSERT INTO shape (id, socket_family, type, protocol, via, address_source, backend, addrlen)
			SELECT DISTINCT shape, 65535, 0, 0, '?', '?', '?', 0 FROM (SELECT shape FROM connection UNION SELECT shape FROM event) WHERE shape NOT IN (SELECT id FROM shape) AND ?1 > 0`,
		`DELETE FROM repeat WHERE id NOT IN (SELECT id FROM connection) AND ?1 > 0`,
		`DELETE FROM ending WHERE cookie = 0 AND id NOT IN (SELECT id FROM connection) AND ?1 > 0`,
		`INSERT INTO boot (id, boot_id, kernel, offset_ns, first_ns) SELECT 1, '?', '?', created_ns, created_ns FROM segment
			WHERE NOT EXISTS (SELECT 1 FROM boot) AND ?1 > 0`,
		`INSERT OR IGNORE INTO clock (id, offset_ns, kind) SELECT 0, coalesce((SELECT offset_ns FROM clock ORDER BY id LIMIT 1), 0), 'start' WHERE ?1 > 0`,
	} {
		if err := segment.Exec(s.conn, nil, fill, int64(lostOwner)); err != nil {
			return fmt.Errorf("complete rows: %w", err)
		}
	}
	var rows, number int64
	tape := ""
	err := segment.Exec(s.conn, func(q *sqlite.Stmt) error {
		rows, number, tape, s.result.Unknown = q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnText(2), q.ColumnInt64(3)
		return nil
	}, `SELECT (SELECT count(*) FROM connection), number, tape_id,
		(SELECT count(*) FROM connection c JOIN task t ON t.id = c.task JOIN process p ON p.id = t.process JOIN endpoint e ON e.id = c.remote
			JOIN shape s ON s.id = c.shape WHERE t.uid = ?1 OR p.tgid = 0 OR e.family = 65535 AND e.address = '?' OR s.via = '?')
		FROM segment`, int64(lostOwner))
	if err != nil {
		return err
	}
	kept, err := readKept(s.conn)
	if err != nil {
		return err
	}
	said := expect(ctx, from, int(number))
	if tape != "?" && tape != said.tape {
		said = expected{stored: -1} // another tape's log
	}
	s.result.Missing = -1
	var lost any // unknown
	if had := said.rows(kept); had >= 0 {
		s.result.Missing = max(0, had-rows)
		lost = s.result.Missing
	}
	return segment.Exec(s.conn, nil, `INSERT INTO gap (from_ns, to_ns, cause, lost, detail) SELECT created_ns, heartbeat_ns, ?, ?, ? FROM segment`,
		CauseSalvaged, lost, fmt.Sprintf("salvaged from %s: %d pages, %d of them not readable, %d altered, %d frames of the WAL damaged, %d rows broken",
			escape.String(file, nil), s.result.Pages, s.result.Unread, s.result.Altered, s.result.Frames, s.result.Broken))
}

// describeSegment closes the segment. If its own description is lost, it describes the segment by its rows.
func (s *salvager) describeSegment(file string) error {
	if s.result.Rows["segment"] > 0 {
		return segment.Exec(s.conn, nil, `UPDATE segment SET state = ?, closed_ns = heartbeat_ns, schema_version = ?, compatible = ?, incompatible = ?,
			heartbeat_ns = max(heartbeat_ns, coalesce((SELECT max(id) FROM connection), 0))`,
			segment.StateClosed, migrations.Version, segment.KnownCompatible, segment.KnownIncompatible)
	}
	number, ok := tapedir.ParseSegmentName(file)
	if !ok {
		number = 1
	}
	return segment.Exec(s.conn, nil, `INSERT INTO segment (id, number, tape_id, state, schema_version, compatible, incompatible, created_ns, heartbeat_ns,
		closed_ns, committed_ns, batches, host, machine_id)
		SELECT 1, ?, '?', ?, ?, ?, ?, min(id), max(id), max(id), max(id), 0, '?', '?' FROM connection`,
		number, segment.StateClosed, migrations.Version, segment.KnownCompatible, segment.KnownIncompatible)
}
