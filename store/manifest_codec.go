package store

import (
	"encoding/binary"
	"math"
	"time"
)

// codec writes or reads the fields that it is shown, one after another, so that both are told of them once.
type codec struct {
	reading bool
	out     []byte // what is written
	in      string // what is still to be read
	bad     bool   // it is not what was written
}

func (c *codec) int(n *int64) {
	if !c.reading {
		c.out = binary.AppendVarint(c.out, *n)
		return
	}
	var u uint64
	for i := 0; i < len(c.in) && i < binary.MaxVarintLen64; i++ {
		u |= uint64(c.in[i]&0x7f) << (7 * i)
		if c.in[i] < 0x80 {
			c.in = c.in[i+1:]
			*n = int64(u>>1) ^ -int64(u&1)
			return
		}
	}
	c.bad, c.in = true, ""
}

func (c *codec) text(s *string) {
	length := int64(len(*s))
	c.int(&length)
	switch {
	case !c.reading:
		c.out = append(c.out, *s...)
	case length < 0 || length > int64(len(c.in)):
		c.bad, c.in = true, ""
	default:
		*s, c.in = c.in[:length], c.in[length:]
	}
}

func (c *codec) smallInt(n *int) {
	wide := int64(*n)
	c.int(&wide)
	*n = int(wide)
}

func (c *codec) time(t *time.Time) {
	ns := int64(math.MinInt64) // no time
	if !t.IsZero() {
		ns = t.UnixNano()
	}
	c.int(&ns)
	if c.reading && ns != math.MinInt64 {
		*t = wallTime(ns)
	}
}

// listOf shows each of a list.
func listOf[T any](c *codec, list *[]T, each func(*T)) {
	n := int64(len(*list))
	c.int(&n)
	if c.reading {
		if n < 0 || n > int64(len(c.in)) { // each has a byte at least
			c.bad, c.in = true, ""
			return
		}
		*list = make([]T, n)
	}
	for i := range *list {
		each(&(*list)[i])
	}
}

// mapOf shows each of a map.
func mapOf[T any](c *codec, m *map[string]T, each func(*T)) {
	type pair struct {
		name  string
		value T
	}
	pairs := make([]pair, 0, len(*m))
	for name, v := range *m {
		pairs = append(pairs, pair{name, v})
	}
	listOf(c, &pairs, func(p *pair) { c.text(&p.name); each(&p.value) })
	if c.reading {
		*m = make(map[string]T, len(pairs))
		for _, p := range pairs {
			(*m)[p.name] = p.value
		}
	}
}

// head is what begins an entry.
func (c *codec) head(number *int64, mark *fileMark) {
	for _, n := range []*int64{number, &mark.size, &mark.modified, &mark.changed, &mark.inode} {
		c.int(n)
	}
	c.text(&mark.end)
}

// segment is what is known of a segment.
func (c *codec) segment(seg *openSegment) {
	info := &seg.info
	c.smallInt(&info.Number)
	c.smallInt(&info.SchemaVersion)
	c.smallInt(&seg.previous)
	for _, n := range []*int64{&seg.created, &seg.batches, &seg.counts, &info.First, &info.Last} {
		c.int(n)
	}
	for _, s := range []*string{&info.State, &info.TapeID, &info.Host, &info.MachineID, &info.BootID, &info.Kernel, &info.Version, &info.Backend} {
		c.text(s)
	}
	listOf(c, &info.BlindSpots, c.text)
	for _, t := range []*time.Time{&info.RunStart, &info.From, &info.To, &info.LastBatch} {
		c.time(t)
	}
	listOf(c, &seg.boots, func(b *bootSpan) {
		c.text(&b.bootID)
		c.text(&b.kernel)
		for _, n := range []*int64{&b.id, &b.offset, &b.first, &b.last} {
			c.int(n)
		}
	})
	listOf(c, &seg.runs, func(r *runAccount) {
		for _, n := range []*int64{&r.id, &r.startBoot, &r.start} {
			c.int(n)
		}
		for _, s := range []*string{&r.bootID, &r.version, &r.backend, &r.blindSpots} {
			c.text(s)
		}
		mapOf(c, &r.counters, func(n *counted) { c.int(&n.first); c.int(&n.value) })
	})
	mapOf(c, &seg.roots, c.int)
	mapOf(c, &seg.small, func(rows *[][]smallCell) {
		listOf(c, rows, func(row *[]smallCell) {
			listOf(c, row, func(v *smallCell) { c.int(&v.kind); c.int(&v.number); c.text(&v.text) })
		})
	})
	if c.reading {
		info.Counters = segmentCounters(seg.runs)
	}
}
