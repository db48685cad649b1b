package store

import (
	"math"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
)

// Part counts what a transaction holds of a batch: the first of each.
type Part struct{ Connections, Endings, Namings, Sockets int }

// partOf returns all of a batch.
func partOf(b *Batch) Part {
	return Part{len(b.Connections), len(b.Endings), len(b.Namings), len(b.Sockets)}
}

// PartlyWritten is the error of a batch of which only a part is on the disk. Whoever tries again must leave that out.
type PartlyWritten struct {
	Part // that is on the disk
	Err  error
}

// Error says what kept the rest from being written.
func (e *PartlyWritten) Error() string { return e.Err.Error() }

// Unwrap returns that error.
func (e *PartlyWritten) Unwrap() error { return e.Err }

// Cut takes a part off a batch.
func (b *Batch) Cut(p Part) {
	b.Connections, b.Endings = b.Connections[p.Connections:], b.Endings[p.Endings:]
	b.Namings, b.Sockets = b.Namings[p.Namings:], b.Sockets[p.Sockets:]
}

// mostTransaction is what a transaction may add, in bytes: SQLite keeps the pages that it
// changes in memory until it is committed.
const mostTransaction = 8 << 20

// split cuts off a batch what one transaction may hold of it: what adds no more than
// the WAL of the tape is to have, not too much for the memory, and what the segment
// still has room for. Connections come first, so that an ending or a name finds its own. Gaps and clocks are part of the last
// transaction; what is counted as stored goes with the rows, since the next part may be in another segment. It returns what
// the part adds, in bytes, and whether there is a rest.
func (w *Writer) split(b *Batch) (part, rest Batch, g growth, more bool) {
	transaction := min(retain.WALBytes(w.room()), mostTransaction)
	most := growth{db: math.MaxInt64, wal: transaction, changed: transaction}
	if w.slotted() { // it is not to become longer than its slot when it is sealed
		// For its rows: what each transaction may add beside them would leave room for one row at the end of a small slot.
		most.db = max(w.leastPart(), w.closing(w.room())-w.seg.pages*pageSize) + batchPages*pageSize
	}
	n, g := w.estimator.fit(w.seg, b, most)
	if n == partOf(b) {
		return *b, Batch{}, g, false
	}
	part = Batch{Connections: b.Connections[:n.Connections], Endings: b.Endings[:n.Endings], Namings: b.Namings[:n.Namings], Sockets: b.Sockets[:n.Sockets]}
	for i := range part.Connections {
		part.Now = max(part.Now, part.Connections[i].BootTime)
	}
	part.Now = min(part.Now, b.Now)
	part.Counters = w.countedWith(part.Connections, b.Counters)
	rest = *b
	rest.Cut(n)
	return part, rest, g, true
}

// countedWith returns the counters after the first connections of a batch that ends with
// other counters, nil if it has none.
func (w *Writer) countedWith(conns []Connection, end segment.Counters) segment.Counters {
	if _, ok := end["stored"]; !ok {
		return nil
	}
	rows, more := uint64(0), uint64(0)
	for i := range conns {
		if !conns[i].Update {
			rows++
			more += uint64(max(1, conns[i].Count)) - 1
		}
	}
	c := segment.Counters{}
	for name, n := range map[string]uint64{"seen": rows + more, "stored": rows, "coalesced": more} {
		if last, ok := end[name]; ok {
			c[name] = min(last, w.counted[name]+n)
		}
	}
	return c
}
