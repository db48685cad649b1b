package store

import (
	"cmp"
	"errors"
	"os"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/posting"
)

// What sealing adds: for each endpoint its connections, for each task its endpoints,
// and the sum of all. It is made of the rows alone, so that the same rows make the
// same bytes, and in the order of its own keys, so that its pages are full.

// sealFormat is the version of what sealing adds.
const sealFormat = 1

// mostSorted bounds the memory for sorting, which is 6 MiB.
const mostSorted = 1 << 17

// connectsOfRow is how many connects a row stands for. The recorder counts from 1
// on, in 32 bits; in a file that was tampered with, a row could say anything.
func connectsOfRow(count int64) int64 { return min(max(count, 1), 1<<32-1) }

// pack fills the tables that sealing adds, which are empty. What does not fit into
// memory is sorted in a file in scratch.
func pack(conn *sqlite.Conn, scratch string) (err error) {
	s := posting.NewSorter(mostSorted, func() (posting.File, error) { return unnamedFile(scratch) })
	defer func() { err = errors.Join(err, s.Close()) }()
	repeats, err := newRepeatCursor(conn)
	if err != nil {
		return err
	}
	defer repeats.close()
	var total span
	err = execOn(conn, func(q *sqlite.Stmt) error {
		id := q.ColumnInt64(0)
		count, _, err := repeats.find(id)
		if err != nil {
			return err
		}
		r := posting.Row{Remote: q.ColumnInt64(1), Task: q.ColumnInt64(2), Shape: q.ColumnInt64(3), ID: id, Connects: connectsOfRow(count)}
		total.add(id, r.Connects)
		return s.Add(r)
	}, `SELECT id, remote, task, shape FROM connection NOT INDEXED ORDER BY id`)
	if err != nil {
		return err
	}
	b, err := postingsInto(conn)
	if err != nil {
		return err
	}
	if err := s.Each(b.Add); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if err := packReach(conn); err != nil {
		return err
	}
	var first, last any
	if total.rows > 0 {
		first, last = total.first, total.last
	}
	return execOn(conn, nil, `INSERT INTO seal (id, format, rows, connects, first_ns, last_ns) VALUES (1, ?, ?, ?, ?, ?)`,
		sealFormat, total.rows, total.connects, first, last)
}

// span counts rows.
type span struct{ rows, connects, first, last int64 }

// add takes a row.
func (s *span) add(id, connects int64) {
	if s.rows == 0 {
		s.first, s.last = id, id
	}
	s.rows++
	s.connects += connects
	s.first, s.last = min(s.first, id), max(s.last, id)
}

// unnamedFile makes a file in dir of which nothing is left once it is closed.
func unnamedFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".sort-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// postingsInto returns what packs rows into the table posting.
func postingsInto(conn *sqlite.Conn) (*posting.Builder, error) {
	insert, err := conn.Prepare(`INSERT INTO posting (remote, part, rows, connects, first_ns, last_ns, list) VALUES (?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return nil, err
	}
	return posting.NewBuilder(func(p *posting.Part) error {
		for i, v := range [...]int64{p.Remote, p.Number, p.Rows, p.Connects, p.First, p.Last} {
			insert.BindInt64(i+1, v)
		}
		insert.BindBytes(7, p.List)
		return run(insert)
	}), nil
}

// reached says that a task connected to an endpoint.
type reached struct{ task, remote int64 }

func (p reached) compare(q reached) int {
	return cmp.Or(cmp.Compare(p.task, q.task), cmp.Compare(p.remote, q.remote))
}

// mostReached bounds the memory for packing: so many pairs at a time, of as many
// tasks as that is. Each time, the postings are read once.
const mostReached = 1 << 18

// packReach fills the table reach from the postings.
func packReach(conn *sqlite.Conn) error {
	insert, err := conn.Prepare(`INSERT INTO reach (task, part, remotes) VALUES (?, ?, ?)`)
	if err != nil {
		return err
	}
	b := posting.NewReachBuilder(func(p *posting.Reach) error {
		insert.BindInt64(1, p.Task)
		insert.BindInt64(2, p.Number)
		insert.BindBytes(3, p.List)
		return run(insert)
	})
	var after *reached
	for {
		pairs, more, err := nextReached(conn, after, mostReached)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := b.Add(p.task, p.remote); err != nil {
				return err
			}
		}
		if !more {
			return b.Flush()
		}
		after = &pairs[len(pairs)-1]
	}
}

// nextReached returns the first pairs after one, nil for the very first, in order.
// More is true when there may be others after them.
func nextReached(conn *sqlite.Conn, after *reached, most int) (pairs []reached, more bool, err error) {
	var until *reached // pairs beyond it are not wanted
	keep := func() {
		slices.SortFunc(pairs, reached.compare)
		if len(pairs) > most {
			pairs, more = pairs[:most], true
			last := pairs[most-1]
			until = &last
		}
	}
	err = eachReached(conn, func(p reached) {
		if after != nil && p.compare(*after) <= 0 || until != nil && p.compare(*until) > 0 {
			return
		}
		if pairs = append(pairs, p); len(pairs) >= 2*most {
			keep()
		}
	})
	keep()
	return pairs, more, err
}

// eachReached calls fn once for every endpoint and task of the postings.
func eachReached(conn *sqlite.Conn, fn func(reached)) error {
	var list []byte
	var last reached
	some := false
	return execOn(conn, func(q *sqlite.Stmt) error {
		list = columnBytes(q, 1, list)
		r := posting.NewReader(list)
		for r.Next() {
			p := reached{r.Task, q.ColumnInt64(0)}
			if !some || p != last {
				fn(p)
			}
			last, some = p, true
		}
		return r.Err()
	}, `SELECT remote, list FROM posting ORDER BY remote, part`)
}

// columnBytes returns a blob in buffer, or in a larger one.
func columnBytes(q *sqlite.Stmt, column int, buffer []byte) []byte {
	buffer = slices.Grow(buffer[:0], q.ColumnLen(column))[:q.ColumnLen(column)]
	return buffer[:q.ColumnBytes(column, buffer)]
}
