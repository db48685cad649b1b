package segment

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"
)

// Codec writes or reads fields, in the same code for both directions.
type Codec struct {
	Reading bool
	Out     []byte // written so far
	In      string // still to be read

	texts []string // that are shared by entries: a text is written as its place among them
	last  int64    // that near has written or read last
	bad   bool     // the input is not valid
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

// shared encodes a text that is the same in many entries.
func (c *Codec) shared(s *string) {
	place := -1
	if !c.Reading {
		if place = slices.Index(c.texts, *s); place < 0 {
			place, c.texts = len(c.texts), append(c.texts, *s)
		}
	}
	c.smallInt(&place)
	switch {
	case !c.Reading:
	case place < 0 || place >= len(c.texts):
		c.bad, c.In = true, ""
	default:
		*s = c.texts[place]
	}
}

// near encodes a number that is close to the last one: the times of a segment.
func (c *Codec) near(n *int64) {
	difference := *n - c.last
	c.int(&difference)
	if c.Reading {
		*n = c.last + difference
	}
	c.last = *n
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
	c.near(&ns)
	if c.Reading && ns != math.MinInt64 {
		*t = WallTime(ns)
	}
}

// listOf encodes each element of a list.
func listOf[T any](c *Codec, list *[]T, each func(*T)) {
	n := int64(len(*list))
	c.int(&n)
	if !c.Reading {
		for i := range *list {
			each(&(*list)[i])
		}
		return
	}
	*list = make([]T, 0, max(0, min(n, allAtOnce)))
	for ; n != 0 && !c.bad; n-- {
		if len(c.In) == 0 { // each has a byte at least; n may be below zero
			c.bad = true
			break
		}
		var none T
		*list = append(*list, none) // read in its place: on its own each would be an allocation
		each(&(*list)[len(*list)-1])
	}
}

// allAtOnce bounds the room that is made for elements before they are read: whoever wrote their number may not have written them.
const allAtOnce = 64

// mapOf encodes each element of a map.
func mapOf[T any](c *Codec, m *map[string]T, key func(*string), each func(*T)) {
	n := int64(len(*m))
	c.int(&n)
	if !c.Reading {
		for _, name := range slices.Sorted(maps.Keys(*m)) {
			v := (*m)[name]
			key(&name)
			each(&v)
		}
		return
	}
	*m = make(map[string]T, max(0, min(n, allAtOnce)))
	for ; n != 0 && !c.bad; n-- {
		if len(c.In) == 0 {
			c.bad = true
			break
		}
		var name string
		var v T
		key(&name)
		each(&v)
		(*m)[name] = v
	}
}

// texts are texts that entries share.
type texts struct {
	sum  int64 // of their record
	list []string
}

// numberOfTexts is the number of a record that has texts, where another has that of its segment.
const numberOfTexts = 0

// head encodes the head of an entry, behind its number.
func (c *Codec) head(e *Entry, texts *int64) {
	for _, n := range []*int64{texts, &e.place.at, &e.place.length, &e.place.sum, &e.Mark.Size, &e.Mark.Inode} {
		c.int(n)
	}
	c.near(&e.Mark.modified)
	c.near(&e.Mark.Changed)
}

// Segment encodes the description of a segment, without the details.
func (c *Codec) Segment(seg *Segment) {
	info := &seg.Info
	for _, n := range []*int{&info.Number, &info.SchemaVersion, &seg.Previous} {
		c.smallInt(n)
	}
	c.int(&seg.Batches)
	c.int(&seg.Counts)
	for _, s := range []*string{&info.State, &info.TapeID, &info.Host, &info.MachineID, &info.BootID, &info.Kernel, &info.Version, &info.Backend} {
		c.shared(s)
	}
	listOf(c, &info.BlindSpots, c.shared)
	for _, n := range []*int64{&seg.Created, &info.First, &info.Last} {
		c.near(n)
	}
	for _, t := range []*time.Time{&info.From, &info.To, &info.LastBatch, &info.RunStart} {
		c.time(t)
	}
	listOf(c, &seg.Boots, func(b *Boot) {
		c.shared(&b.BootID)
		c.shared(&b.kernel)
		for _, n := range []*int64{&b.ID, &b.Offset} {
			c.int(n)
		}
		c.near(&b.First)
		c.near(&b.Last)
	})
	listOf(c, &seg.Runs, func(r *Recorder) {
		for _, n := range []*int64{&r.id, &r.startBoot} {
			c.int(n)
		}
		c.near(&r.Start)
		for _, s := range []*string{&r.bootID, &r.Version, &r.Backend, &r.BlindSpots} {
			c.shared(s)
		}
		c.run(r)
	})
	c.int(&seg.Endings.First)
	c.int(&seg.Endings.Last)
	c.text((*string)(&seg.Gaps))
}

// details encodes details.
func (c *Codec) details(d *Details) {
	for _, s := range []*string{&d.End, (*string)(&d.Addresses), (*string)(&d.Segments), (*string)(&d.Roots)} {
		c.text(s)
	}
}

// run encodes the counters of a run packed: those of thousands of segments are unpacked only for few of them.
func (c *Codec) run(r *Recorder) {
	if !c.Reading {
		part := &Codec{texts: c.texts}
		counters := r.Counters()
		part.counters(&counters)
		r.packed, c.texts = string(part.Out), part.texts
	}
	c.text(&r.packed)
	r.texts = c.texts
}

// counters encodes the counters of a run.
func (c *Codec) counters(counters *map[string]Counted) {
	mapOf(c, counters, c.shared, func(n *Counted) { c.int(&n.First); c.int(&n.Value) })
}

// roots encodes the first pages of tables and indexes.
func (c *Codec) roots(roots *map[string]uint32) {
	mapOf(c, roots, c.text, func(root *uint32) {
		wide := int64(*root)
		c.int(&wide)
		*root = uint32(wide)
	})
}

// rows encodes the rows of a small view.
func (c *Codec) rows(rows *[][]Cell) {
	listOf(c, rows, func(row *[]Cell) {
		listOf(c, row, func(v *Cell) { c.int(&v.Kind); c.int(&v.Number); c.text(&v.Text) })
	})
}
