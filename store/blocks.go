package store

import (
	"cmp"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// An open segment has no index. So that a reader need not read all of it for an endpoint or thread, the writer stores
// the endpoints and tasks of every so many rows: see table block.

// blockRows is the number of connections in a block. A block ends with the batch that reaches it.
const blockRows = 1 << 16

// blocks collects the ids in the rows since the last block.
type blocks struct {
	size           int // rows that make a block, for tests; 0: blockRows
	rows           int // including the batch being written
	remotes, tasks segment.IDSet
	ending         bool // the batch being written ends the block
}

// add adds a row of the batch being written.
func (b *blocks) add(remote, task int64) {
	b.rows++
	b.remotes.Add(remote)
	b.tasks.Add(task)
}

// end writes a block if one is full.
func (b *blocks) end(s *activeSegment) error {
	b.ending = b.full(0)
	if !b.ending {
		return nil
	}
	return s.exec(`INSERT INTO block (id, remotes, tasks) VALUES (?, ?, ?)`, s.rows.maxID, segment.BlobOrNull(b.remotes.List()), segment.BlobOrNull(b.tasks.List()))
}

// full reports whether this many more rows fill a block.
func (b *blocks) full(more int) bool { return b.rows+more >= cmp.Or(b.size, blockRows) }

// committed is called when the batch is committed.
func (b *blocks) committed() {
	if b.ending {
		b.clear()
	}
}

func (b *blocks) clear() {
	b.rows, b.ending = 0, false
	b.remotes.Clear()
	b.tasks.Clear()
}

// load collects the rows since the segment's last block.
func (b *blocks) load(s *activeSegment) error {
	b.clear()
	return s.query(func(q *sqlite.Stmt) error { b.add(q.ColumnInt64(0), q.ColumnInt64(1)); return nil },
		`SELECT remote, task FROM connection WHERE id > (SELECT coalesce(max(id), 0) FROM block) AND id NOT IN (SELECT id FROM late)`)
}

// most returns the largest size of the block after this many more rows: a byte for each id, and another wherever 64 or
// more ids are skipped.
func (b *blocks) most(rows int) int64 {
	if !b.full(rows) {
		return 0
	}
	return int64(2*(b.rows+rows) + len(b.remotes.Words) + len(b.tasks.Words) + 2*rows)
}
