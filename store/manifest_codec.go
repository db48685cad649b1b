package store

import (
	"encoding/binary"
	"math"
	"sync"
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
	n := int64(len(*m))
	c.int(&n)
	if !c.reading {
		for name, v := range *m {
			c.text(&name)
			each(&v)
		}
		return
	}
	if n < 0 || n > int64(len(c.in)) { // each has a byte at least
		c.bad, c.in = true, ""
		return
	}
	*m = make(map[string]T, n)
	for range n {
		var name string
		var v T
		c.text(&name)
		each(&v)
		(*m)[name] = v
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
	for _, packed := range []*string{&seg.roots.text, &seg.gaps.text, &seg.segments.text} {
		c.text(packed)
	}
}

// roots is where the tables and indexes begin.
func (c *codec) roots(roots *map[string]uint32) {
	mapOf(c, roots, func(root *uint32) {
		wide := int64(*root)
		c.int(&wide)
		*root = uint32(wide)
	})
}

// rows is the rows of a small view.
func (c *codec) rows(rows *[][]smallCell) {
	listOf(c, rows, func(row *[]smallCell) {
		listOf(c, row, func(v *smallCell) { c.int(&v.kind); c.int(&v.number); c.text(&v.text) })
	})
}

// packed is a part of an entry that is not unpacked before it is asked for: most answers need it of few segments.
type packed[T any] struct {
	text  string // "": the manifest does not tell it
	once  sync.Once
	value T
	known bool // it could be unpacked
}

// pack gives it a value.
func (p *packed[T]) pack(value T, part func(*codec, *T)) {
	c := &codec{}
	part(c, &value)
	p.text = string(c.out)
}

// unpack returns the value, false if there is none.
func (p *packed[T]) unpack(part func(*codec, *T)) (T, bool) {
	p.once.Do(func() {
		c := &codec{in: p.text, reading: true}
		part(c, &p.value)
		p.known = !c.bad && c.in == ""
	})
	return p.value, p.known
}

// tableRoots returns the first page of each table and index, nil if the manifest does not tell them.
func (seg *openSegment) tableRoots() map[string]uint32 {
	if roots, known := seg.roots.unpack((*codec).roots); known {
		return roots
	}
	return nil
}

// smallRows returns the rows of a small view, not known: the manifest does not tell them, or it is another view.
func (seg *openSegment) smallRows(view string) (rows [][]smallCell, known bool) {
	switch view {
	case "gaps":
		return seg.gaps.unpack((*codec).rows)
	case "segments":
		return seg.segments.unpack((*codec).rows)
	}
	return nil, false
}
