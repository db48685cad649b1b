package store

import (
	"cmp"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/posting"
)

// The index of a sealed segment: for each endpoint its connections, and for each
// task its endpoints. It is made of the rows alone, in their order, so that the
// same rows make the same bytes, and in the order of its own keys, so that its
// pages are full.

// connectsOf is how many connects a row stands for, with table repeat as r. The
// recorder counts from 1 on, in 32 bits; in a file that was tampered with, a row
// could say anything.
const connectsOf = `min(max(coalesce(r.count, 1), 1), 4294967295)`

// packPostings fills the tables posting and reach, which are empty. SQLite sorts,
// in a temporary file when it is much.
func packPostings(conn *sqlite.Conn) error {
	b, err := postingsInto(conn)
	if err != nil {
		return err
	}
	err = execOn(conn, func(q *sqlite.Stmt) error {
		return b.Add(posting.Row{Remote: q.ColumnInt64(0), Task: q.ColumnInt64(1), Shape: q.ColumnInt64(2), ID: q.ColumnInt64(3), Connects: q.ColumnInt64(4)})
	}, `SELECT c.remote, c.task, c.shape, c.id, `+connectsOf+` FROM connection c NOT INDEXED LEFT JOIN repeat r ON r.id = c.id ORDER BY 1, 2, 3, 4`)
	if err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return packReach(conn)
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
