package posting

import (
	"encoding/binary"
	"errors"
)

// ErrOrder means that rows came out of order, or one came twice.
var ErrOrder = errors.New("rows out of order")

// Builder packs rows that come in the order of endpoint, task, shape and id. The same rows always make the same parts: a
// part ends before the row that would make its list longer than MostBytes.
type Builder struct {
	emit   func(*Part) error
	last   Row // previous row
	part   Part
	group  openGroup
	before struct{ task, first int64 } // last group of the list
}

// openGroup is the group of the previous row. It is not in the list yet.
type openGroup struct {
	first     Row
	head      int // bytes of task, shape and first id
	rows      []entry
	more      uint64 // connects minus rows
	idBytes   int    // bytes of the ids after the first
	moreBytes int    // bytes of the counts, if they are written
}

// entry is a row of the open group.
type entry struct {
	step uint64 // id minus previous id; unused in the first
	more uint64 // connects minus 1
}

// NewBuilder returns a builder that passes each part to emit, in order.
func NewBuilder(emit func(*Part) error) *Builder { return &Builder{emit: emit} }

// Add adds the next row.
func (b *Builder) Add(r Row) error {
	begun := b.part.Rows > 0
	if r.Connects < 1 || begun && !b.last.less(&r) {
		return ErrOrder
	}
	switch {
	case begun && r.Remote != b.last.Remote:
		if err := b.Flush(); err != nil {
			return err
		}
		begun = false
	case begun && (r.Task != b.last.Task || r.Shape != b.last.Shape):
		b.closeGroup()
	}
	if !begun {
		b.part.Number = 0
	} else if len(b.part.List)+b.sizeWith(&r) > MostBytes {
		if err := b.Flush(); err != nil {
			return err
		}
		b.part.Number++
	}
	b.push(&r)
	return nil
}

// sizeWith returns the size of the open group with one more row.
func (b *Builder) sizeWith(r *Row) int {
	g := &b.group
	head, ids, more := g.head, g.idBytes, g.more+uint64(r.Connects-1)
	if len(g.rows) == 0 {
		head = b.headBytes(r)
	} else {
		ids += uvarintLen(uint64(r.ID - b.last.ID))
	}
	size := head + uvarintLen(uint64(len(g.rows)+1)) + uvarintLen(more) + ids
	if more > 0 {
		size += g.moreBytes + uvarintLen(uint64(r.Connects-1))
	}
	return size
}

// headBytes returns the size of the head of a group that begins with r.
func (b *Builder) headBytes(r *Row) int {
	return uvarintLen(uint64(r.Task-b.before.task)) + uvarintLen(uint64(r.Shape)) + uvarintLen(zigzag(r.ID-b.before.first))
}

// push adds a row to the open group.
func (b *Builder) push(r *Row) {
	g, p := &b.group, &b.part
	e := entry{more: uint64(r.Connects - 1)}
	if len(g.rows) == 0 {
		g.first, g.head = *r, b.headBytes(r)
	} else {
		e.step = uint64(r.ID - b.last.ID)
		g.idBytes += uvarintLen(e.step)
	}
	g.rows = append(g.rows, e)
	g.more += e.more
	g.moreBytes += uvarintLen(e.more)
	if p.Rows == 0 {
		p.Remote, p.First, p.Last = r.Remote, r.ID, r.ID
	}
	p.Rows++
	p.Connects += r.Connects
	p.First, p.Last = min(p.First, r.ID), max(p.Last, r.ID)
	b.last = *r
}

// closeGroup writes the open group to the list.
func (b *Builder) closeGroup() {
	g := &b.group
	if len(g.rows) == 0 {
		return
	}
	list := binary.AppendUvarint(b.part.List, uint64(g.first.Task-b.before.task))
	list = binary.AppendUvarint(list, uint64(g.first.Shape))
	list = binary.AppendUvarint(list, uint64(len(g.rows)))
	list = binary.AppendUvarint(list, g.more)
	list = binary.AppendVarint(list, g.first.ID-b.before.first)
	for i, e := range g.rows {
		if i > 0 {
			list = binary.AppendUvarint(list, e.step)
		}
		if g.more > 0 {
			list = binary.AppendUvarint(list, e.more)
		}
	}
	b.part.List = list
	b.before.task, b.before.first = g.first.Task, g.first.ID
	g.rows, g.more, g.idBytes, g.moreBytes = g.rows[:0], 0, 0, 0
}

// Flush ends the part, if one is begun. Call it after the last row.
func (b *Builder) Flush() error {
	if b.part.Rows == 0 {
		return nil
	}
	b.closeGroup()
	err := b.emit(&b.part)
	b.before.task, b.before.first = 0, 0
	b.part = Part{Remote: b.part.Remote, Number: b.part.Number, List: b.part.List[:0]}
	return err
}
