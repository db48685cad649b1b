package store

import (
	"maps"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// The batches of a segment form a hash chain, so that the log can prove that the content is as committed. docs/format.md
// defines the hashed bytes. The rows of a batch can be found again although rows of several batches are interleaved: see
// tables batch, late, changed and renamed.

// chainer computes the chain for the writer.
type chainer struct {
	hasher    *segment.Hasher
	chain     [32]byte // after the last batch
	marks     segment.Marks
	batch     int64 // being written
	rows      int64 // written so far
	processes map[int64]struct{}
	changes   map[int64]int64 // of the batch: connection → shape
	renames   map[int64]int64 // likewise: connection → remote
	endings   map[segment.EndingKey]struct{}
	events    []int64 // of the batch
	files     segment.HashKeys
}

// begin starts the batch.
func (c *chainer) begin(batch int64) {
	c.batch, c.rows = batch, 0
	c.hasher.Begin(c.chain, batch)
	clear(c.processes)
	clear(c.changes)
	clear(c.renames)
	clear(c.endings)
	c.events = c.events[:0]
	c.files.Clear()
}

// load reads the end of the segment's chain.
func (c *chainer) load(conn *sqlite.Conn) error {
	if c.hasher == nil {
		c.hasher, c.processes, c.changes = segment.NewHasher(), map[int64]struct{}{}, map[int64]int64{}
		c.renames, c.endings = map[int64]int64{}, map[segment.EndingKey]struct{}{}
	}
	c.chain, c.marks = [32]byte{}, segment.Marks{}
	return segment.Exec(conn, func(q *sqlite.Stmt) error {
		q.ColumnBytes(4, c.chain[:])
		c.marks = segment.Marks{Newest: q.ColumnInt64(0), Task: q.ColumnInt64(1), Endpoint: q.ColumnInt64(2), Shape: q.ColumnInt64(3)}
		return nil
	}, `SELECT newest, task, endpoint, shape, chain FROM batch ORDER BY id DESC LIMIT 1`)
}

// end writes the row of the batch, if the batch is not empty, and returns the chain's state for after the commit.
func (c *chainer) end(conn *sqlite.Conn, newest int64) (chain [32]byte, after segment.Marks, err error) {
	if c.rows == 0 && len(c.changes) == 0 && len(c.renames) == 0 && len(c.endings) == 0 && len(c.events) == 0 && c.files.Len() == 0 {
		return c.chain, c.marks, nil
	}
	for _, id := range slices.Sorted(maps.Keys(c.changes)) {
		c.hasher.Change(id, c.changes[id])
	}
	for _, id := range slices.Sorted(maps.Keys(c.renames)) {
		c.hasher.Rename(id, c.renames[id])
	}
	endings := slices.SortedFunc(maps.Keys(c.endings), segment.EndingKey.Compare)
	if err := segment.HashEndings(c.hasher, conn, c.batch, endings); err != nil {
		return chain, after, err
	}
	slices.Sort(c.events)
	if err := segment.HashEvents(c.hasher, conn, c.events); err != nil {
		return chain, after, err
	}
	if err := segment.HashFiles(c.hasher, conn, &c.files); err != nil {
		return chain, after, err
	}
	after = segment.Marks{Newest: newest}
	err = segment.Exec(conn, func(q *sqlite.Stmt) error {
		after.Task, after.Endpoint, after.Shape = q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnInt64(2)
		return nil
	}, `SELECT coalesce((SELECT max(id) FROM task), 0), coalesce((SELECT max(id) FROM endpoint), 0), coalesce((SELECT max(id) FROM shape), 0)`)
	if err != nil {
		return chain, after, err
	}
	if err := segment.HashInterned(c.hasher, conn, c.marks, after, slices.Sorted(maps.Keys(c.processes))); err != nil {
		return chain, after, err
	}
	chain = c.hasher.Sum()
	err = segment.Exec(conn, nil, `INSERT INTO batch (id, newest, task, endpoint, shape, chain) VALUES (?, ?, ?, ?, ?, ?)`,
		c.batch, after.Newest, after.Task, after.Endpoint, after.Shape, chain[:])
	return chain, after, err
}
