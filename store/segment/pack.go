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

// Sealing adds the connections of each endpoint, the endpoints of each task, and totals. All derive from the rows alone,
// so the same rows make the same bytes. They are written in key order, so pages are full.

// SealFormat is the version of the tables added by sealing.
const SealFormat = 1

// mostSorted limits the memory for sorting: 6 MiB.
const mostSorted = 1 << 17

// ConnectsOf returns the connects of a row. The recorder counts from 1 in 32 bits; an altered file may have any number.
func ConnectsOf(count int64) int64 { return min(max(count, 1), 1<<32-1) }

// Pack fills the tables added by sealing, which are empty. It sorts in memory and in a file in scratch.
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

// Add adds a row.
func (s *Totals) Add(id, connects int64) {
	if s.Rows == 0 {
		s.First, s.Last = id, id
	}
	s.Rows++
	s.Connects += connects
	s.First, s.Last = min(s.First, id), max(s.Last, id)
}

// SortName is the name of a reserved file for sorting.
const SortName = "reserve-sort"

// unnamedFile makes a temporary file in dir without a name, or opens the reserved file for sorting.
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

// PostingsInto returns a builder that packs rows into table posting.
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

// Pair is a task and an endpoint that it connected to.
type Pair struct{ Task, Remote int64 }

func (p Pair) compare(q Pair) int {
	return cmp.Or(cmp.Compare(p.Task, q.Task), cmp.Compare(p.Remote, q.Remote))
}

// mostReached limits the memory for packing: the number of pairs at a time. Each time the postings are read once.
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

// NextReached returns the next pairs in order after a pair; nil: from the start. more reports whether others may follow.
func NextReached(conn *sqlite.Conn, after *Pair, most int) (pairs []Pair, more bool, err error) {
	var until *Pair // higher pairs come later
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
