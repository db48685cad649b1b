package proof

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// ReplayChain recomputes a segment's chain from its tables and calls fn for each batch with the computed and the stored
// hash.
func ReplayChain(conn *sqlite.Conn, fn func(batch int64, chain, said [32]byte) error) error {
	return replayRows(conn, func(*storedRow) {}, fn)
}

// replayRows is ReplayChain that also passes every connection to row, once, in the order of id. After an error of fn it
// does not follow the chain any more, but reads the rest of the rows and then returns the error.
func replayRows(conn *sqlite.Conn, row func(*storedRow), fn func(batch int64, chain, said [32]byte) error) error {
	r := &replay{conn: conn, hasher: segment.NewHasher(), row: row, fn: fn}
	if err := r.load(); err != nil {
		return fmt.Errorf("replay batches: %w", err)
	}
	if err := r.rows(); err != nil {
		return fmt.Errorf("replay batches: %w", err)
	}
	return r.ended
}

// storedRow is a stored connection.
type storedRow struct {
	segment.HashedRow               // with its first outcome; of shape and remote, the last
	told              *segment.Told // how the outcome that it has came later, nil: it did not
	ended             []byte        // that outcome
	odd               bool          // it has a value that the recorder never writes, which stands for NULL in the chain
}

type replay struct {
	conn   *sqlite.Conn
	hasher *segment.Hasher
	row    func(*storedRow)
	fn     func(batch int64, chain, said [32]byte) error

	batches []replayBatch // from the batch whose rows are being read
	begun   bool          // its digest is begun
	before  segment.Marks // of the previous batch
	reached int64         // highest id of a connection so far, maybe of an earlier batch
	highest segment.Marks // that there are
	chain   [32]byte      // likewise
	ended   error         // why the chain is not followed any more

	late      map[int64]struct{}            // connections
	lateOf    map[int64][]int64             // batch → connections, ascending
	shapes    revisions                     // that connections had before they were changed
	remotes   revisions                     // that they had before they were named
	processes map[int64][]int64             // batch → processes, ascending
	endings   map[int64][]segment.EndingKey // batch → endings, ascending
	folded    map[int64][]folded            // batch → endings that sealing moved into rows, ascending
	unfolded  map[int64]struct{}            // connections with a row of ending
	finals    map[int64]int64               // of shapes that have one
	events    map[int64][]int64             // batch → events, ascending
	files     map[int64]*segment.HashKeys   // batch → digests and scripts
}

type replayBatch struct {
	id    int64
	marks segment.Marks
	chain [32]byte // as stored
}

// load reads everything except the connections: it is little.
func (r *replay) load() error {
	r.late, r.lateOf, r.processes = map[int64]struct{}{}, map[int64][]int64{}, map[int64][]int64{}
	r.shapes, r.remotes = newRevisions("shape"), newRevisions("remote")
	r.endings, r.events = map[int64][]segment.EndingKey{}, map[int64][]int64{}
	r.folded, r.unfolded, r.finals = map[int64][]folded{}, map[int64]struct{}{}, map[int64]int64{}
	r.files = map[int64]*segment.HashKeys{}
	for _, table := range []struct {
		query string
		row   func(*sqlite.Stmt) error
	}{
		{"SELECT id, newest, task, endpoint, shape, chain FROM batch ORDER BY id", func(q *sqlite.Stmt) error {
			b := replayBatch{id: q.ColumnInt64(0), marks: segment.Marks{Newest: q.ColumnInt64(1), Task: q.ColumnInt64(2), Endpoint: q.ColumnInt64(3), Shape: q.ColumnInt64(4)}}
			q.ColumnBytes(5, b.chain[:])
			r.batches = append(r.batches, b)
			return nil
		}},
		{"SELECT batch, id FROM late ORDER BY id", func(q *sqlite.Stmt) error {
			batch, id := q.ColumnInt64(0), q.ColumnInt64(1)
			r.late[id] = struct{}{}
			r.lateOf[batch] = append(r.lateOf[batch], id)
			return nil
		}},
		{"SELECT batch, id, shape FROM changed ORDER BY id, batch", r.shapes.add},
		{"SELECT batch, connection, remote FROM renamed ORDER BY connection, batch", r.remotes.add},
		{"SELECT batch, id, cookie FROM ending ORDER BY id, cookie", func(q *sqlite.Stmt) error {
			k := segment.EndingKey{ID: q.ColumnInt64(1), Cookie: q.ColumnInt64(2)}
			r.endings[q.ColumnInt64(0)] = append(r.endings[q.ColumnInt64(0)], k)
			if k.Cookie == 0 {
				r.unfolded[k.ID] = struct{}{}
			}
			return nil
		}},
		{"SELECT id, final FROM shape WHERE final IS NOT NULL", func(q *sqlite.Stmt) error {
			r.finals[q.ColumnInt64(0)] = q.ColumnInt64(1)
			return nil
		}},
		{"SELECT batch, id FROM event ORDER BY id", func(q *sqlite.Stmt) error {
			r.events[q.ColumnInt64(0)] = append(r.events[q.ColumnInt64(0)], q.ColumnInt64(1))
			return nil
		}},
		{"SELECT batch, id FROM main.hash WHERE sha256 IS NOT NULL", func(q *sqlite.Stmt) error {
			k := r.filesOf(q.ColumnInt64(0))
			k.Files = append(k.Files, q.ColumnInt64(1))
			return nil
		}},
		{"SELECT batch, process FROM main.script WHERE hash <> 0", func(q *sqlite.Stmt) error {
			k := r.filesOf(q.ColumnInt64(0))
			k.Scripts = append(k.Scripts, q.ColumnInt64(1))
			return nil
		}},
		{"SELECT batch, id FROM process WHERE source <> 'unknown' ORDER BY id", func(q *sqlite.Stmt) error {
			r.processes[q.ColumnInt64(0)] = append(r.processes[q.ColumnInt64(0)], q.ColumnInt64(1))
			return nil
		}},
	} {
		if err := segment.Exec(r.conn, table.row, table.query); err != nil {
			return err
		}
	}
	return segment.Exec(r.conn, func(q *sqlite.Stmt) error {
		r.highest = segment.Marks{Task: q.ColumnInt64(0), Endpoint: q.ColumnInt64(1), Shape: q.ColumnInt64(2)}
		return nil
	}, "SELECT (SELECT max(id) FROM task), (SELECT max(id) FROM endpoint), (SELECT max(id) FROM shape)")
}

// filesOf returns the digests and scripts of a batch.
func (r *replay) filesOf(batch int64) *segment.HashKeys {
	k := r.files[batch]
	if k == nil {
		k = &segment.HashKeys{}
		r.files[batch] = k
	}
	return k
}

const replayColumns = "SELECT id, task, remote, shape, local, fd, cookie, outcome FROM "

// rows reads connections and repeats side by side, in one pass over each table.
func (r *replay) rows() error {
	repeats, err := segment.NewRepeats(r.conn)
	if err != nil {
		return err
	}
	defer repeats.Close()
	err = segment.Exec(r.conn, func(q *sqlite.Stmt) (err error) {
		row := scanRow(q)
		if row.Count, row.Last, err = repeats.Find(row.ID); err != nil {
			return err
		}
		r.noteFolded(&row)
		r.row(&row)
		if r.ended != nil {
			return nil
		}
		return r.follow(&row)
	}, replayColumns+"connection NOT INDEXED ORDER BY id")
	if err != nil {
		return err
	}
	for len(r.batches) > 0 && r.ended == nil {
		if err := r.finish(); err != nil {
			return err
		}
	}
	return nil
}

// scanRow reads a row of replayColumns.
func scanRow(q *sqlite.Stmt) (row storedRow) {
	row.HashedRow = segment.HashedRow{ID: q.ColumnInt64(0), Task: q.ColumnInt64(1), Remote: q.ColumnInt64(2), Shape: q.ColumnInt64(3),
		Local: q.ColumnInt64(4), Fd: q.ColumnInt64(5), Cookie: q.ColumnInt64(6), Count: 1}
	if row.Fd <= 0 {
		if q.ColumnIsNull(5) {
			row.Fd = -1
		} else {
			row.odd = row.Fd < 0
		}
	}
	if !q.ColumnIsNull(7) {
		row.Outcome = make([]byte, q.ColumnLen(7))
		q.ColumnBytes(7, row.Outcome)
		row.odd = row.odd || q.ColumnType(7) != sqlite.TypeBlob || !row.unfold()
	}
	row.odd = row.odd || row.Local == 0 && !q.ColumnIsNull(4) || row.Cookie == 0 && !q.ColumnIsNull(6)
	return row
}

// follow digests a row if its batch is complete up to here. Then the batches before it are complete.
func (r *replay) follow(row *storedRow) error {
	for len(r.batches) > 0 && row.ID > r.batches[0].marks.Newest && r.ended == nil {
		if err := r.finish(); err != nil {
			return err
		}
	}
	if _, late := r.late[row.ID]; late || len(r.batches) == 0 || r.ended != nil || row.ID <= r.before.Newest {
		return nil
	}
	if err := r.begin(); err != nil {
		return err
	}
	r.digest(row)
	r.reached = row.ID
	return nil
}

// digest digests a row in its first state.
func (r *replay) digest(row *storedRow) {
	first := row.HashedRow
	if row.told != nil && row.told.Shape != 0 {
		first.Shape = row.told.Shape
	}
	first.Shape, first.Remote = r.shapes.first(row.ID, first.Shape), r.remotes.first(row.ID, row.Remote)
	r.hasher.Connection(&first)
}

// begin starts the digest of the batch with its late rows, unless it is begun.
func (r *replay) begin() error {
	if r.begun {
		return nil
	}
	r.begun = true
	n := r.batches[0].id
	r.hasher.Begin(r.chain, n)
	for _, id := range r.lateOf[n] {
		var row storedRow
		found := false
		err := segment.Exec(r.conn, func(q *sqlite.Stmt) error { row, found = scanRow(q), true; return nil },
			replayColumns+"connection WHERE id = ?", id)
		if err != nil {
			return err
		}
		err = segment.Exec(r.conn, func(q *sqlite.Stmt) error { row.Count, row.Last = q.ColumnInt64(0), q.ColumnInt64(1); return nil },
			"SELECT count, last_ns FROM repeat WHERE id = ?", id)
		if err != nil {
			return err
		}
		if found {
			r.digest(&row)
		}
	}
	return nil
}

// finish ends the batch after its last row.
func (r *replay) finish() error {
	if err := r.begin(); err != nil {
		return err
	}
	b := r.batches[0]
	if err := r.changes(b.id); err != nil {
		return err
	}
	if err := r.remotes.each(r.conn, b.id, r.hasher.Rename); err != nil {
		return err
	}
	if err := r.endingsOf(b.id); err != nil {
		return err
	}
	if err := segment.HashEvents(r.hasher, r.conn, r.events[b.id]); err != nil {
		return err
	}
	if err := segment.HashFiles(r.hasher, r.conn, r.filesOf(b.id)); err != nil {
		return err
	}
	delete(r.files, b.id)
	delete(r.endings, b.id)
	delete(r.folded, b.id)
	delete(r.events, b.id)
	if err := segment.HashInterned(r.hasher, r.conn, r.before, b.marks, r.processes[b.id]); err != nil {
		return err
	}
	r.chain, r.before, r.begun = r.hasher.Sum(), b.marks, false
	r.batches = r.batches[1:]
	// A batch whose stored mark is beyond its last row matches the rows that exist, but makes the next batch skip rows
	// added between the two.
	said := b.chain
	if b.marks.Newest != r.reached || b.marks.Task > r.highest.Task || b.marks.Endpoint > r.highest.Endpoint || b.marks.Shape > r.highest.Shape ||
		len(r.batches) == 0 && len(r.endings)+len(r.folded)+len(r.events)+len(r.files) > 0 { // rows of batches that there are not
		said = [32]byte{}
	}
	r.ended = r.fn(b.id, r.chain, said)
	return nil
}
