package table

import (
	"context"
	"slices"
	"sync"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
	"zombiezen.com/go/sqlite"
)

// Traffic is the known bytes and durations of a flow's connections.
type Traffic struct {
	Sent, Received format.Nullable // sums
	Duration       format.Nullable // of the longest
}

func (t *Traffic) add(o *store.StoredOutcome) {
	addUp := func(to *format.Nullable, n int64) {
		if n != store.Unmeasured {
			to.Known, to.Number = true, to.Number+n
		}
	}
	addUp(&t.Sent, o.Sent)
	addUp(&t.Received, o.Received)
	if o.Duration != store.Unmeasured {
		t.Duration = format.Nullable{Number: max(t.Duration.Number, o.Duration), Known: true}
	}
}

// value returns a cell of contacts: NULL if nothing is known, and in columns of single connections.
func (t *Traffic) value(column string) sqlite.Value {
	if t == nil {
		return sqlite.Value{}
	}
	switch column {
	case "bytes_sent":
		return forSQLite(t.Sent.Cell())
	case "bytes_received":
		return forSQLite(t.Received.Cell())
	case "duration_ns":
		return forSQLite(t.Duration.Cell())
	}
	return sqlite.Value{}
}

// Merge adds that of another contact.
func (t *Traffic) Merge(other *Traffic) {
	t.add(&store.StoredOutcome{Outcome: store.Outcome{
		Sent: orUnmeasured(other.Sent), Received: orUnmeasured(other.Received), Duration: orUnmeasured(other.Duration),
	}})
}

func orUnmeasured(n format.Nullable) int64 {
	if !n.Known {
		return store.Unmeasured
	}
	return n.Number
}

// RowKey is a connection: the number of its segment, and its id there.
type RowKey struct {
	Segment int32
	ID      int64
}

// Sent returns the bytes sent over connections, as the view's bytes_sent does. Connections without known bytes are left out.
func (r *Reading) Sent(ctx context.Context, of []RowKey) (map[RowKey]int64, error) {
	ids := make(map[int32][]int64)
	for _, row := range of {
		ids[row.Segment] = append(ids[row.Segment], row.ID)
	}
	if err := readLater(ctx, r.Segments); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	sent := make(map[RowKey]int64)
	err := inParallel(ctx, r.Segments, func(ctx context.Context, _ int, s *SegmentSource) error {
		own := ids[int32(s.Number)]
		slices.Sort(own)
		keep := func(id int64, o *store.StoredOutcome) {
			if o.Sent != store.Unmeasured {
				mu.Lock()
				defer mu.Unlock()
				sent[RowKey{int32(s.Number), id}] = o.Sent
			}
		}
		err := trafficOf(ctx, s, own, func(id int64, o *store.StoredOutcome) {
			if _, ok := s.later[id]; !ok {
				keep(id, o)
			}
		})
		for id, later := range s.later {
			if _, asked := slices.BinarySearch(own, id); asked {
				keep(id, &later.StoredOutcome)
			}
		}
		return err
	})
	return sent, err
}

// trafficOf reads the outcomes of a segment's connections by id, and calls fn for each that has one.
func trafficOf(ctx context.Context, s *SegmentSource, ids []int64, fn func(id int64, o *store.StoredOutcome)) error {
	slices.Sort(ids)
	return s.Tape.ReadOutcomes(ctx, s.Index, ids, func(id int64, outcome []byte) {
		if o, err := store.ParseOutcome(outcome); err == nil && len(outcome) > 0 {
			fn(id, &o)
		}
	})
}
