package segment

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/posting"
)

// What sealing adds: for each endpoint its connections, for each task its endpoints,
// and the sum of all. It is made of the rows alone, so that the same rows make the
// same bytes, and in the order of its own keys, so that its pages are full.

// SealFormat is the version of what sealing adds.
const SealFormat = 1

// mostSorted bounds the memory for sorting, which is 6 MiB.
const mostSorted = 1 << 17

// ConnectsOf is how many connects a row stands for. The recorder counts from 1
// on, in 32 bits; in a file that was tampered with, a row could say anything.
func ConnectsOf(count int64) int64 { return min(max(count, 1), 1<<32-1) }

// Pack fills the tables that sealing adds, which are empty. What does not fit into
// memory is sorted in a file in scratch.
func Pack(conn *sqlite.Conn, scratch string) (err error) {
	s := posting.NewSorter(mostSorted, func() (posting.File, error) { return unnamedFile(scratch) })
	defer func() { err = errors.Join(err, s.Close()) }()
	repeats, err := NewRepeats(conn)
	if err != nil {
		return err
	}
	defer repeats.Close()
	var total Totals
	err = Exec(conn, func(q *sqlite.Stmt) error {
		id := q.ColumnInt64(0)
		count, _, err := repeats.Find(id)
		if err != nil {
			return err
		}
		r := posting.Row{Remote: q.ColumnInt64(1), Task: q.ColumnInt64(2), Shape: q.ColumnInt64(3), ID: id, Connects: ConnectsOf(count)}
		total.Add(id, r.Connects)
		return s.Add(r)
	}, `SELECT id, remote, task, shape FROM connection NOT INDEXED ORDER BY id`)
	if err != nil {
		return err
	}
	b, err := PostingsInto(conn)
	if err != nil {
		return err
	}
	if err := s.Each(b.Add); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if err := PackReach(conn); err != nil {
		return err
	}
	var first, last any
	if total.Rows > 0 {
		first, last = total.First, total.Last
	}
	return Exec(conn, nil, `INSERT INTO seal (id, format, rows, connects, first_ns, last_ns) VALUES (1, ?, ?, ?, ?, ?)`,
		SealFormat, total.Rows, total.Connects, first, last)
}

// Totals counts rows.
type Totals struct{ Rows, Connects, First, Last int64 }

// Add takes a row.
func (s *Totals) Add(id, connects int64) {
	if s.Rows == 0 {
		s.First, s.Last = id, id
	}
	s.Rows++
	s.Connects += connects
	s.First, s.Last = min(s.First, id), max(s.Last, id)
}

// SortName is the name of a file in which sealing sorts, if it is there.
const SortName = "reserve-sort"

// unnamedFile makes a file in dir of which nothing is left once it is closed, unless
// there is one to sort in.
func unnamedFile(dir string) (*os.File, error) {
	if f, err := os.OpenFile(filepath.Join(dir, SortName), os.O_RDWR|unix.O_NOFOLLOW, 0); err == nil {
		return f, nil // of the reserve
	}
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

// PostingsInto returns what packs rows into the table posting.
func PostingsInto(conn *sqlite.Conn) (*posting.Builder, error) {
	insert, err := conn.Prepare(`INSERT INTO posting (remote, part, rows, connects, first_ns, last_ns, list) VALUES (?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return nil, err
	}
	return posting.NewBuilder(func(p *posting.Part) error {
		for i, v := range [...]int64{p.Remote, p.Number, p.Rows, p.Connects, p.First, p.Last} {
			insert.BindInt64(i+1, v)
		}
		insert.BindBytes(7, p.List)
		return Run(insert)
	}), nil
}

// Pair says that a task connected to an endpoint.
type Pair struct{ Task, Remote int64 }

func (p Pair) compare(q Pair) int {
	return cmp.Or(cmp.Compare(p.Task, q.Task), cmp.Compare(p.Remote, q.Remote))
}

// mostReached bounds the memory for packing: so many pairs at a time, of as many
// tasks as that is. Each time, the postings are read once.
const mostReached = 1 << 18

// PackReach fills the table reach from the postings.
func PackReach(conn *sqlite.Conn) error {
	insert, err := conn.Prepare(`INSERT INTO reach (task, part, remotes) VALUES (?, ?, ?)`)
	if err != nil {
		return err
	}
	b := posting.NewReachBuilder(func(p *posting.Reach) error {
		insert.BindInt64(1, p.Task)
		insert.BindInt64(2, p.Number)
		insert.BindBytes(3, p.List)
		return Run(insert)
	})
	var after *Pair
	for {
		pairs, more, err := NextReached(conn, after, mostReached)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := b.Add(p.Task, p.Remote); err != nil {
				return err
			}
		}
		if !more {
			return b.Flush()
		}
		after = &pairs[len(pairs)-1]
	}
}

// NextReached returns the first pairs after one, nil for the very first, in order.
// More is true when there may be others after them.
func NextReached(conn *sqlite.Conn, after *Pair, most int) (pairs []Pair, more bool, err error) {
	var until *Pair // pairs beyond it are not wanted
	keep := func() {
		slices.SortFunc(pairs, Pair.compare)
		if len(pairs) > most {
			pairs, more = pairs[:most], true
			last := pairs[most-1]
			until = &last
		}
	}
	err = eachReached(conn, func(p Pair) {
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
func eachReached(conn *sqlite.Conn, fn func(Pair)) error {
	var list []byte
	var last Pair
	some := false
	return Exec(conn, func(q *sqlite.Stmt) error {
		list = ColumnBytes(q, 1, list)
		r := posting.NewReader(list)
		for r.Next() {
			p := Pair{r.Task, q.ColumnInt64(0)}
			if !some || p != last {
				fn(p)
			}
			last, some = p, true
		}
		return r.Err()
	}, `SELECT remote, list FROM posting ORDER BY remote, part`)
}

// ColumnBytes returns a blob in buffer, or in a larger one.
func ColumnBytes(q *sqlite.Stmt, column int, buffer []byte) []byte {
	buffer = slices.Grow(buffer[:0], q.ColumnLen(column))[:q.ColumnLen(column)]
	return buffer[:q.ColumnBytes(column, buffer)]
}
