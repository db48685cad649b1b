package table

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// rowBatch is connections of an open segment.
type rowBatch struct {
	ids    []int64
	of     [3][]int32 // numbers of shape, task and remote
	order  []int32    // of the rows: by remote, task, shape and id
	before []int32    // order of the previous key
	starts []int32
}

func (b *rowBatch) clear() {
	b.ids = b.ids[:0]
	for i := range b.of {
		b.of[i] = b.of[i][:0]
	}
}

// sort computes order: a counting sort by key, the last key first.
func (b *rowBatch) sort() {
	b.order, b.before = b.order[:0], slices.Grow(b.before[:0], len(b.ids))[:len(b.ids)]
	for i := range b.ids {
		b.order = append(b.order, int32(i))
	}
	for _, keys := range b.of {
		b.order, b.before = b.before, b.order
		most := slices.Max(keys)
		b.starts = append(b.starts[:0], make([]int32, most+2)...)
		for _, k := range keys {
			b.starts[k+1]++
		}
		for k := range most {
			b.starts[k+1] += b.starts[k]
		}
		for _, row := range b.before {
			k := keys[row]
			b.order[b.starts[k]] = row
			b.starts[k]++
		}
	}
}

// sorted reads the connections of a segment in parallel parts, and passes on the flows of one batch at a time.
func (s *SegmentSource) sorted(ctx context.Context, spans []IDSpan, reader ContactReader) error {
	var handing sync.Mutex
	var wait sync.WaitGroup
	parts := split(spans, Parallelism())
	errs := make([]error, len(parts))
	for i, spans := range parts {
		wait.Go(func() {
			b := new(rowBatch)
			hand := func() error {
				if len(b.ids) == 0 {
					return nil
				}
				b.sort()
				handing.Lock()
				defer handing.Unlock()
				return s.flush(b, reader)
			}
			for _, span := range spans {
				errs[i] = s.Tape.ScanConnections(ctx, s.Index, span.From, span.To, s.wanted, func(id, task, remote, shape int64) error {
					s.addRow(b, id, task, remote, shape)
					if len(b.ids) == s.Tape.Limits.Sorted {
						return hand()
					}
					return nil
				})
				if errs[i] != nil {
					return
				}
			}
			errs[i] = hand()
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// split divides spans into at most this many parts of similar length in time.
func split(spans []IDSpan, parts int) [][]IDSpan {
	var sum uint64
	for _, span := range spans {
		sum += uint64(span.To - span.From)
	}
	var all [][]IDSpan
	for ; parts > 1 && len(spans) > 0; parts-- {
		share, part := sum/uint64(parts), []IDSpan(nil)
		for share > 0 && len(spans) > 0 {
			first := spans[0]
			if length := uint64(first.To - first.From); length <= share {
				part, spans = append(part, first), spans[1:]
				share, sum = share-length, sum-length
				continue
			}
			middle := first.From + int64(share)
			part = append(part, IDSpan{first.From, middle})
			spans = append([]IDSpan{{middle, first.To}}, spans[1:]...)
			sum -= share
			break
		}
		if len(part) > 0 {
			all = append(all, part)
		}
	}
	if len(spans) > 0 {
		all = append(all, spans)
	}
	return all
}

// addRow adds a connection to a batch, unless it is not in question.
func (s *SegmentSource) addRow(b *rowBatch, id, task, remote, shape int64) {
	to := s.remotes.of(remote)
	if to < 0 {
		return
	}
	who, how := s.tasks.of(task), s.shapes.of(shape)
	if who < 0 || how < 0 {
		return
	}
	b.ids = append(b.ids, id)
	b.of[0], b.of[1], b.of[2] = append(b.of[0], how), append(b.of[1], who), append(b.of[2], to)
}

// flush passes on the flows of a sorted batch and empties it.
func (s *SegmentSource) flush(b *rowBatch, reader ContactReader) error {
	reader.Begin(s, b.ids[0], b.ids[len(b.ids)-1])
	var c Contact
	var ids, counts []int64
	for at := 0; at < len(b.order); {
		row := b.order[at]
		c.Shape, c.Task, c.Remote = b.of[0][row], b.of[1][row], b.of[2][row]
		ids, counts, c.N = ids[:0], counts[:0], 0
		for ; at < len(b.order); at++ {
			row := b.order[at]
			if b.of[0][row] != c.Shape || b.of[1][row] != c.Task || b.of[2][row] != c.Remote {
				break
			}
			count := int64(1)
			if len(s.repeats) > 0 {
				count = s.RepeatOf(b.ids[row]).Count
			}
			ids, counts = append(ids, b.ids[row]), append(counts, count)
			c.N += count
		}
		c.IDs, c.Counts = ids, nil
		if c.N != int64(len(ids)) {
			c.Counts = counts
		}
		c.taskID, c.remoteID, c.shapeID = s.tasks.ids[c.Task], s.remotes.ids[c.Remote], s.shapes.ids[c.Shape]
		if err := reader.Take(s, &c); err != nil {
			return err
		}
	}
	b.clear()
	return reader.End(s)
}
