package store

import (
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/segment"
)

// Digests can come to a later segment than the process that they are of. A segment that waits for some (its table hash has
// rows that are pending) is read with those of the segments after it: the connection to it gets temporary tables with the
// same names, and the public views over these. The file stays as it is.

// mostLater is in how many segments digests are looked for: the recorder has those of a file seconds after its process, or never.
const mostLater = 8

// fileRows are rows of tables hash and script.
type fileRows struct {
	hashes  map[int64][]any // by id: the other columns but batch
	scripts map[int64]int64 // by process: id of hash
}

const hashColumns = "id, device, inode, ctime_ns, size, sha256, sha1, md5, source"

// readFiles reads what is known of files in a segment.
func readFiles(conn *sqlite.Conn) (*fileRows, error) {
	f := &fileRows{map[int64][]any{}, map[int64]int64{}}
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		row := []any{q.ColumnInt64(1), q.ColumnInt64(2), q.ColumnInt64(3), q.ColumnInt64(4), nil, nil, nil, q.ColumnText(8)}
		for i := 5; i < 8; i++ {
			if !q.ColumnIsNull(i) {
				b := make([]byte, q.ColumnLen(i))
				q.ColumnBytes(i, b)
				row[i-1] = b
			}
		}
		f.hashes[q.ColumnInt64(0)] = row
		return nil
	}, "SELECT "+hashColumns+" FROM hash WHERE source <> 'pending'")
	if err == nil {
		err = segment.Exec(conn, func(q *sqlite.Stmt) error { f.scripts[q.ColumnInt64(0)] = q.ColumnInt64(1); return nil },
			"SELECT process, hash FROM script WHERE hash <> 0")
	}
	if err != nil {
		return nil, fmt.Errorf("read hashes: %w", err)
	}
	return f, nil
}

// joinFiles gives a connection to a segment the digests that came to later ones, if it waits for any.
func (t *Tape) joinFiles(place int, conn *sqlite.Conn) error {
	waiting := false
	err := segment.Exec(conn, func(q *sqlite.Stmt) error { waiting = q.ColumnInt64(0) != 0; return nil },
		"SELECT EXISTS (SELECT 1 FROM hash WHERE source = 'pending') OR EXISTS (SELECT 1 FROM script WHERE hash = 0)")
	if err != nil || !waiting {
		return err
	}
	var later []*fileRows
	for other := place + 1; other < len(t.segs) && other <= place+mostLater; other++ {
		rows, err := t.filesOf(other)
		if err != nil {
			return err
		}
		if rows != nil {
			later = append(later, rows)
		}
	}
	if len(later) == 0 {
		return nil
	}
	return segment.Loosened(conn, func() error { return addFileRows(conn, later) })
}

// filesOf reads what is known of files in another segment than the one that is being opened, nil if it is gone or damaged.
func (t *Tape) filesOf(place int) (*fileRows, error) {
	seg := t.segs[place]
	if seg.files != nil { // of a private copy, which cannot be opened again
		return seg.files, nil
	}
	if seg.Info.Snapshot {
		return nil, nil
	}
	again := segment.Segment{File: seg.File, Stat: seg.Stat, Info: seg.Info}
	defer again.Watch.Close()
	r, err := again.Open()
	if err != nil { // whoever reads that segment is told
		return nil, nil
	}
	rows, err := readFiles(r.Conn)
	return rows, errors.Join(err, r.Close())
}

// addFileRows makes temporary tables of a segment's rows and of later ones, and views over them.
func addFileRows(conn *sqlite.Conn, later []*fileRows) error {
	schema, err := segment.ExpectedSchema(migrations.Version)
	if err != nil {
		return err
	}
	sql := []string{"PRAGMA temp_store = MEMORY"}
	for _, table := range []string{"hash", "script"} {
		sql = append(sql, strings.Replace(schema[table], "CREATE TABLE ", "CREATE TEMP TABLE ", 1), "INSERT INTO temp."+table+" SELECT * FROM main."+table)
	}
	for _, view := range []string{"connections", "processes", "programs"} {
		sql = append(sql, strings.Replace(schema[view], "CREATE VIEW ", "CREATE TEMP VIEW ", 1))
	}
	for _, s := range sql {
		if err := segment.Exec(conn, nil, s); err != nil {
			return fmt.Errorf("join hashes: %w", err)
		}
	}
	for _, rows := range later {
		if err := rows.addTo(conn); err != nil {
			return fmt.Errorf("join hashes: %w", err)
		}
	}
	return nil
}

// addTo adds the rows that the temporary tables wait for.
func (f *fileRows) addTo(conn *sqlite.Conn) error {
	var waiting, processes []int64
	for query, list := range map[string]*[]int64{
		"SELECT id FROM temp.hash WHERE source = 'pending'": &waiting,
		"SELECT process FROM temp.script WHERE hash = 0":    &processes,
	} {
		if err := segment.Exec(conn, func(q *sqlite.Stmt) error { *list = append(*list, q.ColumnInt64(0)); return nil }, query); err != nil {
			return err
		}
	}
	add := func(id int64) error {
		if f.hashes[id] == nil {
			return nil
		}
		return segment.Exec(conn, nil, "INSERT OR REPLACE INTO temp.hash ("+hashColumns+", batch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)", append([]any{id}, f.hashes[id]...)...)
	}
	for _, id := range waiting {
		if err := add(id); err != nil {
			return err
		}
	}
	for _, process := range processes {
		id, found := f.scripts[process]
		if !found {
			continue
		}
		if err := add(id); err != nil {
			return err
		}
		if err := segment.Exec(conn, nil, "UPDATE temp.script SET hash = ? WHERE process = ?", id, process); err != nil {
			return err
		}
	}
	return nil
}
