package table

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/conntape/conntape/query/pairs"
)

// mergedRow is the sum of flows that agree in the used columns.
type mergedRow struct {
	Task, Remote, How int32
	slot              slot
	segment           int32 // the first in which one of their connections is
	found             int64 // the first of those: its id
	N, rows           int64 // n: connects
	moments
	Traffic *Traffic // nil: it is not asked for, or nothing is known
}

// moments are the first and the last times of connections.
type moments struct {
	First, newest         int64 // ids
	FirstWall, newestWall int64 // of column time
	ended, lastWall       int64 // of column last_time
}

// add makes them those of other connections too.
func (m *moments) add(o *moments) {
	m.First, m.FirstWall, m.ended = min(m.First, o.First), min(m.FirstWall, o.FirstWall), min(m.ended, o.ended)
	m.newest, m.newestWall, m.lastWall = max(m.newest, o.newest), max(m.newestWall, o.newestWall), max(m.lastWall, o.lastWall)
}

// before reports whether it is found before another, segment by segment.
func (r *mergedRow) before(o *mergedRow) bool {
	return r.segment < o.segment || r.segment == o.segment && r.found < o.found
}

// mergedRows are found by a hash table of their indexes. There may be millions, so they are in chunks that do not move.
type mergedRows struct {
	chunks [][]mergedRow
	count  int32
	slots  []int32 // a power of two, more than half free; row + 1, 0: free
	Order  []int32 // once sorted
}

const rowsOfChunk = 1 << 12

// At returns a row.
func (r *mergedRows) At(i int32) *mergedRow { return &r.chunks[i/rowsOfChunk][i%rowsOfChunk] }

// add adds a row to the row with the same key.
func (r *mergedRows) add(row mergedRow) {
	if 2*int(r.count) >= len(r.slots) {
		r.slots = make([]int32, max(1024, 2*len(r.slots)))
		for i := range r.count {
			*r.slot(r.At(i)) = i + 1
		}
	}
	slot := r.slot(&row)
	if *slot == 0 {
		if r.count%rowsOfChunk == 0 {
			r.chunks = append(r.chunks, make([]mergedRow, 0, rowsOfChunk))
		}
		last := &r.chunks[len(r.chunks)-1]
		*last = append(*last, row)
		r.count++
		*slot = r.count
		return
	}
	is := r.At(*slot - 1)
	if row.before(is) {
		is.segment, is.found = row.segment, row.found
	}
	is.N, is.rows = is.N+row.N, is.rows+row.rows
	is.moments.add(&row.moments)
	if is.Traffic == nil {
		is.Traffic = row.Traffic
	} else if row.Traffic != nil {
		is.Traffic.Merge(row.Traffic)
	}
}

// slot returns the slot of the row with the same key, or its free slot.
func (r *mergedRows) slot(row *mergedRow) *int32 {
	mask := uint64(len(r.slots) - 1)
	hash := (pairs.Of(row.Task, row.Remote) ^ uint64(row.How)<<48 ^ uint64(row.How)<<24 ^ uint64(row.slot.wall)<<20 ^ uint64(row.slot.clock)<<20) * 0x9e3779b97f4a7c15
	for at := hash >> (64 - bits.Len64(mask)); ; at = (at + 1) & mask {
		slot := &r.slots[at]
		if *slot == 0 {
			return slot
		}
		if is := r.At(*slot - 1); is.Task == row.Task && is.Remote == row.Remote && is.How == row.How && is.slot == row.slot {
			return slot
		}
	}
}

// sort puts the oldest row first: the first row of a group gives the columns that are not grouped by. asFound: it puts the
// one first whose connections come first, segment by segment.
func (r *mergedRows) sort(asFound bool) {
	r.slots, r.Order = nil, make([]int32, r.count)
	for i := range r.Order {
		r.Order[i] = int32(i)
	}
	if asFound {
		slices.SortFunc(r.Order, func(i, j int32) int {
			a, b := r.At(i), r.At(j)
			return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.found, b.found))
		})
		return
	}
	slices.SortFunc(r.Order, func(i, j int32) int {
		a, b := r.At(i), r.At(j)
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.N, b.N), cmp.Compare(a.lastWall, b.lastWall))
	})
}
