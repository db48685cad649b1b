package table

import "github.com/conntape/conntape/store"

// Tape is a tape with the limits of the answers that it gives.
type Tape struct {
	*store.Tape
	Limits Limits
}

// Of returns a tape with the usual limits.
func Of(tape *store.Tape) *Tape { return &Tape{tape, usualLimits} }

// Limits bound what an answer holds in memory at a time. An answer that needs more is made in parts, or in another way, and is
// the same: tests ask everything with limits that are 400 times lower.
type Limits struct {
	Sorted   int    // connections of an open segment that a worker sorts at a time
	Found    int    // connections of a segment looked up by id; if more may match, all are read
	Unmerged int    // flows of a segment that wait to be merged, which should fit into a processor's cache
	Moved    int    // connections of such flows whose bytes are read at a time
	Kept     int    // tasks, endpoints or shapes of a segment whose cells a stream keeps
	Listed   int    // rows looked up by id in a table of a segment; for more, the table is read
	Values   int    // values of IN that are pushed down; for more, all connections are read
	Chunk    int    // rows that a stream hands over at a time
	Pairs    int64  // bits of a set of pairs; a larger one is a hash table
	Grouped  int    // slots of time that are counted at once, and pairs beyond bitmaps that each worker has of them; for more, in several parts
	Held     int64  // bytes of flows in which beacons are sought; for more, in several passes
	Tried    int    // 8-byte numbers of the flows of a run in which scans are sought; for more, in several passes
	Slots    uint64 // slots of time counted at once in the search for scans; a longer run is sorted
	Firsts   int    // connections that an answer reads by id at a time
	Repeats  int64  // rows of several connects that are sorted by their count; if there are more, SQLite sorts all rows
}

// usualLimits are the limits of every answer outside tests.
var usualLimits = Limits{
	Sorted: 1 << 17, Found: 100_000, Unmerged: 1 << 13, Moved: 1 << 16, Kept: 1 << 16, Listed: 4000, Values: 10_000, Chunk: 2048,
	Pairs: 1 << 26, Grouped: 1 << 17, Held: 96 << 20, Tried: 6 << 20, Slots: 1 << 25, Firsts: 20_000, Repeats: 1 << 20,
}

// Divided returns limits that are n times lower, and 1 at least.
func (l Limits) Divided(n int) Limits {
	return Limits{
		Sorted: max(1, l.Sorted/n), Found: max(1, l.Found/n), Unmerged: max(1, l.Unmerged/n), Moved: max(1, l.Moved/n), Kept: max(1, l.Kept/n), Listed: max(1, l.Listed/n),
		Values: max(1, l.Values/n), Chunk: max(1, l.Chunk/n), Pairs: max(1, l.Pairs/int64(n)), Grouped: max(1, l.Grouped/n), Held: max(1, l.Held/int64(n)),
		Tried: max(1, l.Tried/n), Slots: max(1, l.Slots/uint64(n)), Firsts: max(1, l.Firsts/n), Repeats: max(1, l.Repeats/int64(n)),
	}
}
