package segment

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Codec writes or reads fields, in the same code for both directions.
type Codec struct {
	Reading bool
	Out     []byte // written so far
	In      string // still to be read
	bad     bool   // the input is not valid
}

func (c *Codec) int(n *int64) {
	if !c.Reading {
		c.Out = binary.AppendVarint(c.Out, *n)
		return
	}
	if len(c.In) > 0 && c.In[0] < 0x80 {
		*n, c.In = int64(c.In[0]>>1)^-int64(c.In[0]&1), c.In[1:]
		return
	}
	if v, size := binary.Varint([]byte(c.In[:min(len(c.In), binary.MaxVarintLen64)])); size > 0 {
		*n, c.In = v, c.In[size:]
		return
	}
	c.bad, c.In = true, ""
}

func (c *Codec) text(s *string) {
	length := int64(len(*s))
	c.int(&length)
	switch {
	case !c.Reading:
		c.Out = append(c.Out, *s...)
	case length < 0 || length > int64(len(c.In)):
		c.bad, c.In = true, ""
	default:
		*s, c.In = c.In[:length], c.In[length:]
	}
}

func (c *Codec) smallInt(n *int) {
	wide := int64(*n)
	c.int(&wide)
	*n = int(wide)
}

func (c *Codec) time(t *time.Time) {
	ns := int64(math.MinInt64) // no time
	if !t.IsZero() {
		ns = t.UnixNano()
	}
	c.int(&ns)
	if c.Reading && ns != math.MinInt64 {
		*t = WallTime(ns)
	}
}

// listOf encodes each element of a list.
func listOf[T any](c *Codec, list *[]T, each func(*T)) {
	n := int64(len(*list))
	c.int(&n)
	if c.Reading {
		if n < 0 || n > int64(len(c.In)) { // each has a byte at least
			c.bad, c.In = true, ""
			return
		}
		*list = make([]T, n)
	}
	for i := range *list {
		each(&(*list)[i])
	}
}

// mapOf encodes each element of a map.
func mapOf[T any](c *Codec, m *map[string]T, each func(*T)) {
	n := int64(len(*m))
	c.int(&n)
	if !c.Reading {
		for _, name := range slices.Sorted(maps.Keys(*m)) {
			v := (*m)[name]
			c.text(&name)
			each(&v)
		}
		return
	}
	if n < 0 || n > int64(len(c.In)) { // each has a byte at least
		c.bad, c.In = true, ""
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

// Head encodes the head of an entry.
func (c *Codec) Head(number *int64, mark *Mark) {
	for _, n := range []*int64{number, &mark.Size, &mark.modified, &mark.Changed, &mark.Inode} {
		c.int(n)
	}
	c.text(&mark.end)
}

// Segment encodes the description of a segment.
func (c *Codec) Segment(seg *Segment) {
	info := &seg.Info
	c.smallInt(&info.Number)
	c.smallInt(&info.SchemaVersion)
	c.smallInt(&seg.Previous)
	for _, n := range []*int64{&seg.Created, &seg.Batches, &seg.Counts, &info.First, &info.Last, &seg.Endings.First, &seg.Endings.Last} {
		c.int(n)
	}
	for _, s := range []*string{&info.State, &info.TapeID, &info.Host, &info.MachineID, &info.BootID, &info.Kernel, &info.Version, &info.Backend} {
		c.text(s)
	}
	listOf(c, &info.BlindSpots, c.text)
	for _, t := range []*time.Time{&info.RunStart, &info.From, &info.To, &info.LastBatch} {
		c.time(t)
	}
	listOf(c, &seg.Boots, func(b *Boot) {
		c.text(&b.BootID)
		c.text(&b.kernel)
		for _, n := range []*int64{&b.ID, &b.Offset, &b.First, &b.Last} {
			c.int(n)
		}
	})
	listOf(c, &seg.Runs, func(r *Recorder) {
		for _, n := range []*int64{&r.id, &r.startBoot, &r.Start} {
			c.int(n)
		}
		for _, s := range []*string{&r.bootID, &r.Version, &r.Backend, &r.BlindSpots} {
			c.text(s)
		}
		if !c.Reading {
			r.pack()
		}
		c.text(&r.packed)
	})
	for _, packed := range []*string{&seg.Roots.Text, &seg.Gaps.Text, &seg.Segments.Text, (*string)(&seg.Addresses)} {
		c.text(packed)
	}
}

// pack packs the counters of a run: those of thousands of segments are unpacked only for few of them.
func (r *Recorder) pack() {
	c := &Codec{}
	counters := r.Counters()
	c.counters(&counters)
	r.packed = string(c.Out)
}

// counters encodes the counters of a run.
func (c *Codec) counters(counters *map[string]Counted) {
	mapOf(c, counters, func(n *Counted) { c.int(&n.First); c.int(&n.Value) })
}

// Roots encodes the first pages of tables and indexes.
func (c *Codec) Roots(roots *map[string]uint32) {
	mapOf(c, roots, func(root *uint32) {
		wide := int64(*root)
		c.int(&wide)
		*root = uint32(wide)
	})
}

// Rows encodes the rows of a small view.
func (c *Codec) Rows(rows *[][]Cell) {
	listOf(c, rows, func(row *[]Cell) {
		listOf(c, row, func(v *Cell) { c.int(&v.Kind); c.int(&v.Number); c.text(&v.Text) })
	})
}

// packed is a part of an entry that is unpacked on demand: most answers need it of few segments.
type packed[T any] struct {
	Text  string // "": not in the manifest
	once  sync.Once
	value T
	known bool // it could be unpacked
}

// Pack sets the value.
func (p *packed[T]) Pack(value T, part func(*Codec, *T)) {
	c := &Codec{}
	part(c, &value)
	p.Text = string(c.Out)
}

// unpack returns the value; false: there is none.
func (p *packed[T]) unpack(part func(*Codec, *T)) (T, bool) {
	p.once.Do(func() {
		c := &Codec{In: p.Text, Reading: true}
		part(c, &p.value)
		p.known = !c.bad && c.In == ""
	})
	return p.value, p.known
}

// TableRoots returns the first page of each table and index, nil if the manifest lacks them.
func (seg *Segment) TableRoots() map[string]uint32 {
	if roots, known := seg.Roots.unpack((*Codec).Roots); known {
		return roots
	}
	return nil
}

// SmallRows returns the rows of a small view. known is false if the manifest lacks them or the view is not small.
func (seg *Segment) SmallRows(view string) (rows [][]Cell, known bool) {
	switch view {
	case "gaps":
		return seg.Gaps.unpack((*Codec).Rows)
	case "segments":
		return seg.Segments.unpack((*Codec).Rows)
	}
	return nil, false
}
