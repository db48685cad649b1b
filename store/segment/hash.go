package segment

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"

	"zombiezen.com/go/sqlite"
)

// chainPrefix begins the hash of a batch.
const chainPrefix = "conntape batch 1\n"

// Hasher digests one batch.
type Hasher struct {
	h    hash.Hash
	last int64 // previous id
	buf  []byte
}

func NewHasher() *Hasher { return &Hasher{h: sha256.New()} }

// Begin starts the digest of commit n; chain is the hash before it.
func (c *Hasher) Begin(chain [32]byte, n int64) {
	c.h.Reset()
	c.h.Write([]byte(chainPrefix))
	c.h.Write(chain[:])
	c.last = 0
	c.buf = binary.AppendVarint(c.buf[:0], n)
}

// HashedRow is a connection as it is hashed. NULL is 0 in columns that are never 0, else -1.
type HashedRow struct {
	ID, Task, Remote, Shape int64
	Local, Fd, Cookie       int64 // 0, -1, 0 for NULL
	Count, Last             int64 // 1 and 0 for a row of one connect
	Outcome                 []byte
}

func (c *Hasher) Connection(r *HashedRow) {
	b := append(c.buf, 'c')
	b = binary.AppendVarint(b, r.ID-c.last)
	c.last = r.ID
	for _, v := range [...]int64{r.Task, r.Remote, r.Shape, r.Local, r.Fd, r.Cookie, r.Count, r.Last} {
		b = binary.AppendVarint(b, v)
	}
	if len(r.Outcome) > 0 {
		b = append(binary.AppendVarint(append(b, 'o'), int64(len(r.Outcome))), r.Outcome...)
	}
	c.buf = b
	c.spill(4096)
}

// Change adds the new shape of a connection.
func (c *Hasher) Change(id, shape int64) {
	c.buf = binary.AppendVarint(binary.AppendVarint(append(c.buf, 'u'), id), shape)
	c.spill(4096)
}

// Rename adds the new endpoint of a connection.
func (c *Hasher) Rename(id, remote int64) {
	c.buf = binary.AppendVarint(binary.AppendVarint(append(c.buf, 'r'), id), remote)
	c.spill(4096)
}

// values adds a row of another table, with all columns.
func (c *Hasher) values(kind byte, q *sqlite.Stmt) {
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

func (c *Hasher) spill(above int) {
	if len(c.buf) > above {
		c.h.Write(c.buf)
		c.buf = c.buf[:0]
	}
}

// Sum returns the chain including this batch.
func (c *Hasher) Sum() [32]byte {
	c.spill(0)
	return [32]byte(c.h.Sum(nil))
}

// Marks are the highest ids of a segment after a batch.
type Marks struct{ Newest, Task, Endpoint, Shape int64 }

// EndingKey identifies an ending within a batch.
type EndingKey struct{ ID, Cookie int64 }

// Compare orders endings as in the chain.
func (a EndingKey) Compare(b EndingKey) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Cookie, b.Cookie))
}

// HashEndings adds the endings of earlier connections that a batch wrote.
func HashEndings(h *Hasher, conn *sqlite.Conn, batch int64, endings []EndingKey) error {
	for _, e := range endings {
		err := Exec(conn, func(q *sqlite.Stmt) error { h.values('x', q); return nil },
			"SELECT * FROM ending WHERE id = ? AND cookie = ? AND batch = ?", e.ID, e.Cookie, batch)
		if err != nil {
			return fmt.Errorf("hash ending: %w", err)
		}
	}
	return nil
}

// Ending adds an ending, of a connection in the same segment, that is no row of its own any more.
func (c *Hasher) Ending(id, batch, final int64, outcome []byte) {
	b := append(c.buf, 'x')
	for _, v := range [...]int64{id, 0, batch, final} { // as values
		b = binary.AppendVarint(append(b, 'i'), v)
	}
	c.buf = append(binary.AppendVarint(append(b, 'b'), int64(len(outcome))), outcome...)
	c.spill(4096)
}

// HashEvents adds what a batch told of sockets, by ascending ids.
func HashEvents(h *Hasher, conn *sqlite.Conn, events []int64) error {
	for _, id := range events {
		err := Exec(conn, func(q *sqlite.Stmt) error { h.values('v', q); return nil }, "SELECT * FROM event WHERE id = ?", id)
		if err != nil {
			return fmt.Errorf("hash event: %w", err)
		}
	}
	return nil
}

// HashKeys are the digests of files, and the scripts that were found, of one batch.
type HashKeys struct{ Files, Scripts []int64 }

// Len returns how many there are.
func (k *HashKeys) Len() int { return len(k.Files) + len(k.Scripts) }

// Clear removes all.
func (k *HashKeys) Clear() { k.Files, k.Scripts = k.Files[:0], k.Scripts[:0] }

// HashFiles adds the digests of files and the scripts that a batch wrote, each by ascending ids.
func HashFiles(h *Hasher, conn *sqlite.Conn, keys *HashKeys) error {
	slices.Sort(keys.Files)
	slices.Sort(keys.Scripts)
	for _, t := range []struct {
		kind  byte
		query string
		ids   []int64
	}{{'h', "SELECT * FROM main.hash WHERE id = ?", keys.Files}, {'i', "SELECT * FROM main.script WHERE process = ?", keys.Scripts}} {
		for _, id := range t.ids {
			if err := Exec(conn, func(q *sqlite.Stmt) error { h.values(t.kind, q); return nil }, t.query, id); err != nil {
				return fmt.Errorf("hash file: %w", err)
			}
		}
	}
	return nil
}

// HashInterned adds the rows that a batch wrote to the dictionary tables.
func HashInterned(h *Hasher, conn *sqlite.Conn, before, after Marks, processes []int64) error {
	for _, t := range []struct {
		kind     byte
		table    string
		from, to int64
	}{{'t', "task", before.Task, after.Task}, {'e', "endpoint", before.Endpoint, after.Endpoint}, {'s', "shape", before.Shape, after.Shape}} {
		if t.from == t.to {
			continue
		}
		err := Exec(conn, func(q *sqlite.Stmt) error { h.values(t.kind, q); return nil },
			"SELECT * FROM "+t.table+" WHERE id > ? AND id <= ? ORDER BY id", t.from, t.to)
		if err != nil {
			return fmt.Errorf("hash %s: %w", t.table, err)
		}
	}
	for _, id := range processes {
		err := Exec(conn, func(q *sqlite.Stmt) error { h.values('p', q); return nil },
			"SELECT * FROM process WHERE id = ?", id)
		if err != nil {
			return fmt.Errorf("hash process: %w", err)
		}
	}
	return nil
}
