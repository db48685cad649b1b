package store

import (
	"slices"
	"sort"
)

// Endings come long after their connections, and change pages in the middle of three tables: connection, changed and ending.
// How many pages these are decides how many endings one transaction may hold. They come in the order of their connections,
// so that neighbours share pages. A ruler tells how many of them do: it knows the ids of every so many rows.

const (
	rulerRows  = 1024 // between two marks
	rulerMarks = 4096 // that are kept
)

// pagesOfEnding is how many pages an ending changes that shares none.
const pagesOfEnding = 3

// ruler knows the newest connections of a segment, oldest first. What its first mark has, and all before it, is not known.
type ruler []rulerMark

// rulerMark is a number of connections, neighbours by id, and how many endings of them were written.
type rulerMark struct {
	newest        int64 // highest id
	rows, endings int
}

// begin forgets all connections of a segment with this highest id.
func (r *ruler) begin(newest int64) {
	*r = append((*r)[:0], rulerMark{newest: newest, rows: rulerRows})
}

// add adds a connection that is written.
func (r *ruler) add(id int64) {
	last := len(*r) - 1
	switch m := &(*r)[last]; {
	case id < m.newest: // late
		(*r)[r.find(id)].rows++
		return
	case m.rows < rulerRows:
		m.newest = id
		m.rows++
		return
	case last+1 == rulerMarks:
		*r = slices.Delete(*r, 0, rulerMarks/2)
	}
	*r = append(*r, rulerMark{newest: id, rows: 1})
}

// find returns the place of a time on the segment clock: 0 unknown, and one beyond the last if no connection is as young.
func (r ruler) find(at int64) int {
	return sort.Search(len(r), func(i int) bool { return r[i].newest >= at })
}

// wrote counts an ending that was written.
func (r ruler) wrote(at int64) {
	if i := r.find(at); i < len(r) {
		r[i].endings++
	}
}

// pages bounds the pages that so many endings at a place change.
func (r ruler) pages(place, endings int) int64 {
	n := int64(endings)
	switch place {
	case 0:
		return pagesOfEnding * n
	case len(r):
		return 0 // pages of this transaction, which count as new
	}
	m := r[place]
	return min(n, pagesFor(m.rows, connectionRowBytes+outcomeBytes)) + 2*min(n, pagesFor(m.endings, endingRowBytes))
}

// pagesFor bounds the pages with so many rows, one behind the other.
func pagesFor(rows, bytes int) int64 { return int64(rows)*int64(bytes)*5/4/pageSize + 2 }

// run counts endings of neighbours.
type run struct{ place, n int }

// add adds an ending and returns how many pages more are changed.
func (u *run) add(r ruler, at int64) int64 {
	if place := r.find(at); place != u.place || u.n == 0 {
		*u = run{place: place}
	}
	u.n++
	return r.pages(u.place, u.n) - r.pages(u.place, u.n-1)
}
