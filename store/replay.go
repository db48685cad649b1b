package store

import (
	"fmt"

	"zombiezen.com/go/sqlite"
)

// replayChain makes the chain of a segment again from what its tables hold, and
// calls fn for each batch with what it comes to and with what the segment says.
// db is "" or the name of an attached database with its dot.
func replayChain(conn *sqlite.Conn, db string, fn func(batch int64, chain, said [32]byte) error) error {
	r := &replay{conn: conn, db: db, hasher: newChainHasher()}
	if err := r.load(); err != nil {
		return fmt.Errorf("replay batches: %w", err)
	}
	var chain [32]byte
	before := marks{}
	for _, b := range r.batches {
		r.hasher.begin(chain, b.id)
		if err := r.batch(b.id, before, b.marks); err != nil {
			return fmt.Errorf("replay batch %d: %w", b.id, err)
		}
		chain = r.hasher.sum()
		if err := fn(b.id, chain, b.chain); err != nil {
			return err
		}
		before = b.marks
	}
	return nil
}

type replay struct {
	conn   *sqlite.Conn
	db     string
	hasher *chainHasher

	batches   []replayBatch
	late      map[int64][]int64       // batch → connections, ascending
	changes   map[int64][]int64       // batch → connections, ascending
	history   map[int64][]shapeBefore // connection → changes, ascending
	processes map[int64][]int64       // batch → processes, ascending
}

type replayBatch struct {
	id    int64
	marks marks
	chain [32]byte
}

// shapeBefore is the shape that a connection had before a batch changed it.
type shapeBefore struct{ batch, shape int64 }

// load reads all but the connections: it is little.
func (r *replay) load() error {
	r.late, r.changes, r.processes = map[int64][]int64{}, map[int64][]int64{}, map[int64][]int64{}
	r.history = map[int64][]shapeBefore{}
	for _, table := range []struct {
		query string
		row   func(*sqlite.Stmt) error
	}{
		{"SELECT id, newest, task, endpoint, shape, chain FROM " + r.db + "batch ORDER BY id", func(q *sqlite.Stmt) error {
			b := replayBatch{id: q.ColumnInt64(0), marks: marks{q.ColumnInt64(1), q.ColumnInt64(2), q.ColumnInt64(3), q.ColumnInt64(4)}}
			q.ColumnBytes(5, b.chain[:])
			r.batches = append(r.batches, b)
			return nil
		}},
		{"SELECT batch, id FROM " + r.db + "late ORDER BY id", func(q *sqlite.Stmt) error {
			r.late[q.ColumnInt64(0)] = append(r.late[q.ColumnInt64(0)], q.ColumnInt64(1))
			return nil
		}},
		{"SELECT batch, id, shape FROM " + r.db + "changed ORDER BY id, batch", func(q *sqlite.Stmt) error {
			batch, id := q.ColumnInt64(0), q.ColumnInt64(1)
			r.changes[batch] = append(r.changes[batch], id)
			r.history[id] = append(r.history[id], shapeBefore{batch, q.ColumnInt64(2)})
			return nil
		}},
		{"SELECT batch, id FROM " + r.db + "process WHERE source <> 'unknown' ORDER BY id", func(q *sqlite.Stmt) error {
			r.processes[q.ColumnInt64(0)] = append(r.processes[q.ColumnInt64(0)], q.ColumnInt64(1))
			return nil
		}},
	} {
		if err := execOn(r.conn, table.row, table.query); err != nil {
			return err
		}
	}
	return nil
}

const replayColumns = "SELECT c.id, c.task, c.remote, c.shape, coalesce(c.local, 0), coalesce(c.fd, -1), coalesce(c.cookie, 0), coalesce(r.count, 1), coalesce(r.last_ns, 0) FROM "

func (r *replay) batch(n int64, before, after marks) error {
	from := replayColumns + r.db + "connection c LEFT JOIN " + r.db + "repeat r ON r.id = c.id "
	for _, id := range r.late[n] {
		if err := execOn(r.conn, r.connection, from+"WHERE c.id = ?", id); err != nil {
			return err
		}
	}
	err := execOn(r.conn, r.connection, from+"WHERE c.id > ? AND c.id <= ? AND NOT EXISTS (SELECT 1 FROM "+r.db+"late l WHERE l.id = c.id) ORDER BY c.id",
		before.newest, after.newest)
	if err != nil {
		return err
	}
	for _, id := range r.changes[n] {
		shape, err := r.shapeAfter(id, n)
		if err != nil {
			return err
		}
		r.hasher.change(id, shape)
	}
	return hashInterned(r.hasher, r.conn, r.db, before, after, r.processes[n])
}

// connection digests a row as it was written first.
func (r *replay) connection(q *sqlite.Stmt) error {
	row := chainRow{id: q.ColumnInt64(0), task: q.ColumnInt64(1), remote: q.ColumnInt64(2), shape: q.ColumnInt64(3),
		local: q.ColumnInt64(4), fd: q.ColumnInt64(5), cookie: q.ColumnInt64(6), count: q.ColumnInt64(7), last: q.ColumnInt64(8)}
	if changes := r.history[row.id]; len(changes) > 0 {
		row.shape = changes[0].shape
	}
	r.hasher.connection(&row)
	return nil
}

// shapeAfter is the shape that a batch gave a connection.
func (r *replay) shapeAfter(id, batch int64) (shape int64, err error) {
	for _, c := range r.history[id] {
		if c.batch > batch {
			return c.shape, nil
		}
	}
	err = execOn(r.conn, func(q *sqlite.Stmt) error { shape = q.ColumnInt64(0); return nil },
		"SELECT shape FROM "+r.db+"connection WHERE id = ?", id)
	return shape, err
}
