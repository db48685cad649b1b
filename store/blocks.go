package store

import (
	"cmp"
	"math/bits"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/posting"
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
	remotes, tasks idSet
	ending         bool // the batch that is being written ends the block
}

// add takes a row of the batch that is being written.
func (b *blocks) add(remote, task int64) {
	b.rows++
	b.remotes.add(remote)
	b.tasks.add(task)
}

// end writes a block if one is full.
func (b *blocks) end(s *segment) error {
	b.ending = b.full(0)
	if !b.ending {
		return nil
	}
	return s.exec(`INSERT INTO block (id, remotes, tasks) VALUES (?, ?, ?)`, s.rows.maxID, blobOrNull(b.remotes.list()), blobOrNull(b.tasks.list()))
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
	b.remotes.clear()
	b.tasks.clear()
}

// load collects again what the segment has since its last block.
func (b *blocks) load(s *segment) error {
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
	return int64(2*(b.rows+rows) + len(b.remotes.words) + len(b.tasks.words) + 2*rows)
}

// idSet is a set of ids of a table that numbers its rows from 1 on.
type idSet struct {
	words []uint64
	odd   bool // there was one that no table of ours has
}

// mostIDs bounds the memory of a set: 16 MiB. A segment is full before.
const mostIDs = 1 << 27

func (s *idSet) add(id int64) {
	w := uint64(id) >> 6
	if w >= uint64(len(s.words)) && !s.grow(w) {
		return
	}
	s.words[w] |= 1 << (id & 63)
}

// grow makes room for a word.
func (s *idSet) grow(w uint64) bool {
	if w >= mostIDs/64 {
		s.odd = true
		return false
	}
	s.words = append(s.words, make([]uint64, int(w)+1-len(s.words))...)
	return true
}

// list is the set as it is stored, nil when that cannot be.
func (s *idSet) list() []byte {
	if s.odd {
		return nil
	}
	list, before := []byte{}, int64(0)
	for i, word := range s.words {
		for ; word != 0; word &= word - 1 {
			id := int64(i<<6 + bits.TrailingZeros64(word))
			list = posting.AppendID(list, before, id)
			before = id
		}
	}
	return list
}

func (s *idSet) clear() {
	clear(s.words)
	s.odd = false
}
