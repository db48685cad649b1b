package store

import (
	"cmp"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// A segment that is written has no index. So that who looks for an endpoint or a
// thread need not read all of it, the writer notes every so many rows which ones
// they had: see the table block.

// blockRows is how many connections make a block, which ends with the batch that
// reaches it.
const blockRows = 1 << 16

// blocks collects what the rows since the last block are about.
type blocks struct {
	size           int // rows that make a block, for tests; 0: blockRows
	rows           int // with those of the batch that is being written
	remotes, tasks segment.IDSet
	ending         bool // the batch that is being written ends the block
}

// add takes a row of the batch that is being written.
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

// full reports whether so many rows more would be enough for a block.
func (b *blocks) full(more int) bool { return b.rows+more >= cmp.Or(b.size, blockRows) }

// committed says that the batch is on the disk.
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

// load collects again what the segment has since its last block.
func (b *blocks) load(s *activeSegment) error {
	b.clear()
	return s.query(func(q *sqlite.Stmt) error { b.add(q.ColumnInt64(0), q.ColumnInt64(1)); return nil },
		`SELECT remote, task FROM connection WHERE id > (SELECT coalesce(max(id), 0) FROM block) AND id NOT IN (SELECT id FROM late)`)
}

// most returns what the block may take on the disk if it ends with so many rows
// more: a byte for each id, and another wherever 64 or more are passed over.
func (b *blocks) most(rows int) int64 {
	if !b.full(rows) {
		return 0
	}
	return int64(2*(b.rows+rows) + len(b.remotes.Words) + len(b.tasks.Words) + 2*rows)
}
