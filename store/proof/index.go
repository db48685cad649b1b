package proof

import (
	"encoding/binary"
	"errors"
	"hash/maphash"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/posting"
	"github.com/conntape/conntape/store/segment"
)

// The index of a sealed segment is compared with the rows without sorting them again: both are summed up over a hash of
// each row. The hash is keyed with a secret of this run, so whoever made the file can make two sums equal only by
// chance, 1 in 2^64. Packing the index again shows that it has each row once, in order, and in parts as sealing makes
// them.

// rowSum is a sum over rows, independent of order.
type rowSum struct {
	seed maphash.Seed
	sum  uint64
	segment.Totals
}

func (s *rowSum) addRow(remote, task, shape, id, connects int64) {
	var b [40]byte
	for i, v := range [...]int64{remote, task, shape, id, connects} {
		binary.LittleEndian.PutUint64(b[i*8:], uint64(v))
	}
	s.sum += maphash.Bytes(s.seed, b[:])
	s.Totals.Add(id, connects)
}

// addPair adds a thread and one of its endpoints.
func (s *rowSum) addPair(task, remote int64) { s.addRow(remote, task, 0, 0, 0) }

// errNotPacked means that an index is not as sealing makes it.
var errNotPacked = errors.New("not as it is made")

// repacker packs the parts of a table again and compares. P is a part, with its list.
type repacker[P any] struct {
	read *P // read, but not packed again yet
	same func(a, b *P) bool
}

// made gets each part that was packed again. A part is complete when the first row of the next one is packed.
func (p *repacker[P]) made(part *P) error {
	if p.read == nil || !p.same(p.read, part) {
		return errNotPacked
	}
	p.read = nil
	return nil
}

// began is called when the first row of a part was packed: none of its rows may belong to the previous part.
func (p *repacker[P]) began() error {
	if p.read != nil {
		return errNotPacked
	}
	return nil
}

// readPostings sums up the rows in the postings and the pairs of thread and endpoint. The error is errNotPacked if they
// are not as sealing makes them.
func readPostings(conn *sqlite.Conn, rows, pairs *rowSum) error {
	again := repacker[posting.Part]{same: func(a, b *posting.Part) bool {
		return a.Remote == b.Remote && a.Number == b.Number && a.Rows == b.Rows && a.Connects == b.Connects &&
			a.First == b.First && a.Last == b.Last && string(a.List) == string(b.List)
	}}
	b := posting.NewBuilder(again.made)
	part, other := new(posting.Part), new(posting.Part)
	var last segment.Pair
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		part, other = other, part // it is not packed again yet
		*part = posting.Part{Remote: q.ColumnInt64(0), Number: q.ColumnInt64(1), Rows: q.ColumnInt64(2), Connects: q.ColumnInt64(3),
			First: q.ColumnInt64(4), Last: q.ColumnInt64(5), List: segment.ColumnBytes(q, 6, part.List)}
		r := posting.NewReader(part.List)
		for some := false; r.Next(); {
			if p := (segment.Pair{Task: r.Task, Remote: part.Remote}); pairs.Rows == 0 || p != last {
				pairs.addPair(p.Task, p.Remote)
				last = p
			}
			for id, connects, ok := r.Row(); ok; id, connects, ok = r.Row() {
				if err := b.Add(posting.Row{Remote: part.Remote, Task: r.Task, Shape: r.Shape, ID: id, Connects: connects}); err != nil {
					return err
				}
				if !some {
					if err := again.began(); err != nil {
						return err
					}
					some = true
				}
				rows.addRow(part.Remote, r.Task, r.Shape, id, connects)
			}
		}
		again.read = part
		return r.Err()
	}, `SELECT remote, part, rows, connects, first_ns, last_ns, list FROM posting ORDER BY remote, part`)
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = again.began()
	}
	return notPacked(err)
}

// readReach sums up the pairs in table reach.
func readReach(conn *sqlite.Conn, pairs *rowSum) error {
	again := repacker[posting.Reach]{same: func(a, b *posting.Reach) bool {
		return a.Task == b.Task && a.Number == b.Number && string(a.List) == string(b.List)
	}}
	b := posting.NewReachBuilder(again.made)
	part, other := new(posting.Reach), new(posting.Reach)
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		part, other = other, part
		*part = posting.Reach{Task: q.ColumnInt64(0), Number: q.ColumnInt64(1), List: segment.ColumnBytes(q, 2, part.List)}
		some := false
		for remote, err := range posting.IDs(part.List) {
			if err != nil {
				return err
			}
			if err := b.Add(part.Task, remote); err != nil {
				return err
			}
			if !some {
				if err := again.began(); err != nil {
					return err
				}
				some = true
			}
			pairs.addPair(part.Task, remote)
		}
		again.read = part
		return nil
	}, `SELECT task, part, remotes FROM reach ORDER BY task, part`)
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = again.began()
	}
	return notPacked(err)
}

// checkIndex compares the index with the sum of the rows.
func (s *segmentVerifier) checkIndex(conn *sqlite.Conn, rows *rowSum) error {
	entries, pairs, reach := rowSum{seed: rows.seed}, rowSum{seed: rows.seed}, rowSum{seed: rows.seed}
	wrong := func(err error, table string, different bool, is, want int64) error {
		switch {
		case errors.Is(err, errNotPacked):
			s.fail(s.rightUntil(), "its index %s is not what sealing makes of any rows", table)
			return nil
		case err == nil && different:
			s.fail(s.rightUntil(), "its index %s does not agree with its rows: it has %d entries, and should have %d", table, is, want)
		}
		return err
	}
	err := readPostings(conn, &entries, &pairs)
	if err := wrong(err, "posting", entries != *rows, entries.Rows, rows.Rows); err != nil {
		return err
	}
	if entries != *rows { // the sums of the pairs come from the entries: no second problem
		return s.checkSeal(conn, rows)
	}
	err = readReach(conn, &reach)
	if err := wrong(err, "reach", reach != pairs, reach.Rows, pairs.Rows); err != nil {
		return err
	}
	return s.checkSeal(conn, rows)
}

// checkSeal compares the seal's totals with the rows.
func (s *segmentVerifier) checkSeal(conn *sqlite.Conn, rows *rowSum) error {
	var said []segment.Totals
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		if q.ColumnInt64(0) == segment.SealFormat {
			said = append(said, segment.Totals{Rows: q.ColumnInt64(1), Connects: q.ColumnInt64(2), First: q.ColumnInt64(3), Last: q.ColumnInt64(4)})
		}
		return nil
	}, `SELECT format, rows, connects, coalesce(first_ns, 0), coalesce(last_ns, 0) FROM seal`)
	if err != nil {
		return err
	}
	if len(said) != 1 || said[0] != rows.Totals {
		s.fail(s.rightUntil(), "its summary seal does not agree with its rows")
	}
	return nil
}

// notPacked turns errors of the same meaning into errNotPacked.
func notPacked(err error) error {
	if errors.Is(err, posting.ErrOrder) || errors.Is(err, posting.ErrCorrupt) {
		return errNotPacked
	}
	return err
}
