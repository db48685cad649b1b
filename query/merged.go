package query

import (
	"cmp"
	"math/bits"
	"slices"
)

// mergedRow is the sum of flows that agree in the used columns.
type mergedRow struct {
	task, remote, how   int32
	first, n, rows      int64 // n: connects
	firstWall, lastWall int64
	traffic             *traffic // nil: not used, or unknown
}

// mergedRows are found by a hash table of their indexes. There may be millions, so they are in chunks that do not move.
type mergedRows struct {
	chunks [][]mergedRow
	count  int32
	slots  []int32 // a power of two, more than half free; row + 1, 0: free
	order  []int32 // once sorted
}

const rowsOfChunk = 1 << 12

// at returns a row.
func (r *mergedRows) at(i int32) *mergedRow { return &r.chunks[i/rowsOfChunk][i%rowsOfChunk] }

// add adds a row to the row with the same key.
func (r *mergedRows) add(row mergedRow) {
	if 2*int(r.count) >= len(r.slots) {
		r.slots = make([]int32, max(1024, 2*len(r.slots)))
		for i := range r.count {
			*r.slot(r.at(i)) = i + 1
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
	is := r.at(*slot - 1)
	is.first, is.n, is.rows = min(is.first, row.first), is.n+row.n, is.rows+row.rows
	if is.traffic == nil {
		is.traffic = row.traffic
	} else if row.traffic != nil {
		is.traffic.merge(row.traffic)
	}
	is.firstWall, is.lastWall = min(is.firstWall, row.firstWall), max(is.lastWall, row.lastWall)
}

// slot returns the slot of the row with the same key, or its free slot.
func (r *mergedRows) slot(row *mergedRow) *int32 {
	mask := uint64(len(r.slots) - 1)
	hash := (pairOf(row.task, row.remote) ^ uint64(row.how)<<48 ^ uint64(row.how)<<24) * 0x9e3779b97f4a7c15
	for at := hash >> (64 - bits.Len64(mask)); ; at = (at + 1) & mask {
		slot := &r.slots[at]
		if *slot == 0 {
			return slot
		}
		if is := r.at(*slot - 1); is.task == row.task && is.remote == row.remote && is.how == row.how {
			return slot
		}
	}
}

// sort puts the oldest row first: the first row of a group provides the columns that are not grouped by.
func (r *mergedRows) sort() {
	r.slots, r.order = nil, make([]int32, r.count)
	for i := range r.order {
		r.order[i] = int32(i)
	}
	slices.SortFunc(r.order, func(i, j int32) int {
		a, b := r.at(i), r.at(j)
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.n, b.n), cmp.Compare(a.lastWall, b.lastWall))
	})
}
