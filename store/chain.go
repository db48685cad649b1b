package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"slices"

	"zombiezen.com/go/sqlite"
)

// The batches of a segment are chained by hash, so that a log outside of it can
// tell that what it holds is what was committed. docs/format.md defines the bytes
// that are hashed. What a hash covers can be found in the file again, although
// rows of several batches lie between each other: see the tables batch, late and
// changed.

// chainPrefix begins what is hashed of a batch.
const chainPrefix = "conntape batch 1\n"

// chainHasher digests one batch.
type chainHasher struct {
	h    hash.Hash
	last int64 // id before
	buf  []byte
}

func newChainHasher() *chainHasher { return &chainHasher{h: sha256.New()} }

// begin starts the digest of commit n, which follows chain.
func (c *chainHasher) begin(chain [32]byte, n int64) {
	c.h.Reset()
	c.h.Write([]byte(chainPrefix))
	c.h.Write(chain[:])
	c.last = 0
	c.buf = binary.AppendVarint(c.buf[:0], n)
}

// chainRow is a connection as it is hashed: NULL is 0 for what is never 0, else one
// less than nothing.
type chainRow struct {
	id, task, remote, shape int64
	local, fd, cookie       int64 // 0, -1, 0 for NULL
	count, last             int64 // 1, 0 for a row that stands for itself
}

func (c *chainHasher) connection(r *chainRow) {
	b := append(c.buf, 'c')
	b = binary.AppendVarint(b, r.id-c.last)
	c.last = r.id
	for _, v := range [...]int64{r.task, r.remote, r.shape, r.local, r.fd, r.cookie, r.count, r.last} {
		b = binary.AppendVarint(b, v)
	}
	c.buf = b
	c.spill(4096)
}

// change is a connection that was given a shape.
func (c *chainHasher) change(id, shape int64) {
	c.buf = binary.AppendVarint(binary.AppendVarint(append(c.buf, 'u'), id), shape)
	c.spill(4096)
}

// values is a row of another table, with all of its columns.
func (c *chainHasher) values(kind byte, q *sqlite.Stmt) {
	b := append(c.buf, kind)
	for i := range q.ColumnCount() {
		switch q.ColumnType(i) {
		case sqlite.TypeInteger:
			b = binary.AppendVarint(append(b, 'i'), q.ColumnInt64(i))
		case sqlite.TypeNull:
			b = append(b, 'n')
		case sqlite.TypeText:
			b = binary.AppendVarint(append(b, 't'), int64(q.ColumnLen(i)))
			b = append(b, q.ColumnText(i)...)
		default:
			b = binary.AppendVarint(append(b, 'b'), int64(q.ColumnLen(i)))
			at := len(b)
			b = append(b, make([]byte, q.ColumnLen(i))...)
			q.ColumnBytes(i, b[at:])
		}
	}
	c.buf = b
	c.spill(4096)
}

func (c *chainHasher) spill(above int) {
	if len(c.buf) > above {
		c.h.Write(c.buf)
		c.buf = c.buf[:0]
	}
}

// sum returns the chain with this batch.
func (c *chainHasher) sum() [32]byte {
	c.spill(0)
	return [32]byte(c.h.Sum(nil))
}

// marks are the highest ids of a segment after a batch.
type marks struct{ newest, task, endpoint, shape int64 }

// chainer chains what the writer writes.
type chainer struct {
	hasher    *chainHasher
	chain     [32]byte // up to the last batch
	marks     marks
	batch     int64 // being written
	rows      int64 // written so far
	processes map[int64]struct{}
	changes   map[int64]int64 // of the batch: connection → shape
}

// begin starts the batch.
func (c *chainer) begin(batch int64) {
	c.batch, c.rows = batch, 0
	c.hasher.begin(c.chain, batch)
	clear(c.processes)
	clear(c.changes)
}

// load reads where the segment's chain ends.
func (c *chainer) load(conn *sqlite.Conn) error {
	if c.hasher == nil {
		c.hasher, c.processes, c.changes = newChainHasher(), map[int64]struct{}{}, map[int64]int64{}
	}
	c.chain, c.marks = [32]byte{}, marks{}
	return execOn(conn, func(q *sqlite.Stmt) error {
		q.ColumnBytes(4, c.chain[:])
		c.marks = marks{q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnInt64(2), q.ColumnInt64(3)}
		return nil
	}, `SELECT newest, task, endpoint, shape, chain FROM batch ORDER BY id DESC LIMIT 1`)
}

// end writes the row of the batch, if it held anything, and returns what is to be
// kept once it is committed.
func (c *chainer) end(conn *sqlite.Conn, newest int64) (chain [32]byte, after marks, err error) {
	if c.rows == 0 && len(c.changes) == 0 {
		return c.chain, c.marks, nil
	}
	for _, id := range slices.Sorted(maps.Keys(c.changes)) {
		c.hasher.change(id, c.changes[id])
	}
	after = marks{newest: newest}
	err = execOn(conn, func(q *sqlite.Stmt) error {
		after.task, after.endpoint, after.shape = q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnInt64(2)
		return nil
	}, `SELECT coalesce((SELECT max(id) FROM task), 0), coalesce((SELECT max(id) FROM endpoint), 0), coalesce((SELECT max(id) FROM shape), 0)`)
	if err != nil {
		return chain, after, err
	}
	if err := hashInterned(c.hasher, conn, c.marks, after, slices.Sorted(maps.Keys(c.processes))); err != nil {
		return chain, after, err
	}
	chain = c.hasher.sum()
	err = execOn(conn, nil, `INSERT INTO batch (id, newest, task, endpoint, shape, chain) VALUES (?, ?, ?, ?, ?, ?)`,
		c.batch, after.newest, after.task, after.endpoint, after.shape, chain[:])
	return chain, after, err
}

// hashInterned digests what a batch added to the tables beside connection.
func hashInterned(h *chainHasher, conn *sqlite.Conn, before, after marks, processes []int64) error {
	for _, t := range []struct {
		kind     byte
		table    string
		from, to int64
	}{{'t', "task", before.task, after.task}, {'e', "endpoint", before.endpoint, after.endpoint}, {'s', "shape", before.shape, after.shape}} {
		if t.from == t.to {
			continue
		}
		err := execOn(conn, func(q *sqlite.Stmt) error { h.values(t.kind, q); return nil },
			"SELECT * FROM "+t.table+" WHERE id > ? AND id <= ? ORDER BY id", t.from, t.to)
		if err != nil {
			return fmt.Errorf("hash %s: %w", t.table, err)
		}
	}
	for _, id := range processes {
		err := execOn(conn, func(q *sqlite.Stmt) error { h.values('p', q); return nil },
			"SELECT * FROM process WHERE id = ?", id)
		if err != nil {
			return fmt.Errorf("hash process: %w", err)
		}
	}
	return nil
}
