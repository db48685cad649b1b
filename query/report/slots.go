package report

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"

	"github.com/conntape/conntape/query/table"
)

// Slots of time may be many, with few connects each: eight days have 691,200 seconds, and ten million connections in them
// nearly as many pairs of a second and a destination. Such pairs are not held at once: the window is read in parts of
// whole slots. A part reads only the lists of connections that reach into it.

// slotGroup is the group of a slot of time.
type slotGroup struct {
	slot, n, failed, denied int64
	programs, labels        int32
}

// slotParts reads the slots from from to to, both included.
type slotParts struct {
	*Planned
	*table.Reading
	length   int64 // of a slot, ns
	from, to int64
}

// groupSlots groups the flows of a reading by slots of time. It returns the groups in order, part by part.
func (p *Planned) groupSlots(ctx context.Context, r *table.Reading, length int64) ([][]slotGroup, error) {
	first, last := r.Ends()
	if first > last {
		return nil, nil
	}
	s := slotParts{p, r, length, first / length, last / length}
	if s.to-s.from < int64(p.tape.Limits.Grouped) {
		groups, _, err := s.group(ctx, s.from, s.to)
		if !errors.Is(err, table.ErrTooMuch) {
			return [][]slotGroup{groups}, err
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wait sync.WaitGroup
	slots, workers := s.to-s.from+1, int64(table.Parallelism())
	read := make([][][]slotGroup, workers)
	for i := range workers {
		share := s
		share.from, share.to = s.from+slots*i/workers, s.from+slots*(i+1)/workers-1
		wait.Go(func() {
			var err error
			if read[i], err = share.inParts(ctx); err != nil {
				stop(err)
			}
		})
	}
	wait.Wait()
	return slices.Concat(read...), context.Cause(ctx)
}

// inParts reads the slots part by part. Each part is as long as memory allowed for the one before.
func (s slotParts) inParts(ctx context.Context) (parts [][]slotGroup, err error) {
	most := int64(s.tape.Limits.Grouped)
	for from, slots := s.from, most; from <= s.to; {
		to := min(from+slots-1, s.to)
		groups, held, err := s.group(ctx, from, to)
		if errors.Is(err, table.ErrTooMuch) {
			slots = max(1, (to-from+1)/8)
			continue
		}
		if err != nil {
			return nil, err
		}
		if parts, from = append(parts, groups), to+1; int64(held) < most/3 {
			slots = min(2*slots, most)
		}
	}
	return parts, nil
}

// group groups the flows of a part. held is how many groups and pairs that took.
func (s slotParts) group(ctx context.Context, from, to int64) (list []slotGroup, held int, err error) {
	span := table.IDSpan{From: startOfSlot(from, s.length), To: startOfSlot(to+1, s.length)}
	by := grouping{slot: s.length, keys: int(to - from + 1), countsPrograms: true, countsLabels: true, key: func(f flow) uint64 { return uint64(f.IDs[0]/s.length - from) }}
	if from < to {
		by.most = s.tape.Limits.Grouped
	}
	g, err := s.groupBy(ctx, s.Between(span), by)
	if err != nil {
		return nil, 0, err
	}
	for key, group := range g.each {
		list = append(list, slotGroup{from + int64(key), group.n, group.failed, group.denied, group.programs, group.labels})
	}
	return list, g.held(), nil
}

// startOfSlot returns the first time of a slot. Division rounds towards zero, so slot 0 reaches to both sides of it.
func startOfSlot(slot, length int64) int64 {
	most := math.MaxInt64 / length
	switch {
	case slot > most:
		return math.MaxInt64
	case slot > 0:
		return slot * length
	case slot <= -most:
		return math.MinInt64
	}
	return (slot-1)*length + 1
}
