package sqlitefile

import (
	"context"
	"encoding/binary"
	"sort"
)

// Leaf is a page with rows of a table. It is valid until the called function returns.
type Leaf struct {
	Page  []byte
	w     *walk
	n     uint32
	count int
}

// Len returns the number of rows.
func (l *Leaf) Len() int { return l.count }

// Offset returns the offset of row i on the page, from 0 on: its length, id and values. It may be beyond the page.
func (l *Leaf) Offset(i int) int { return int(binary.BigEndian.Uint16(l.Page[8+2*i:])) }

// Row reads row i, from 0 on.
func (l *Leaf) Row(i int) (id int64, row []byte, err error) {
	length, at, ok := Varint(l.Page, l.Offset(i))
	id, at, idOK := rowid(l.Page, at)
	if !ok || !idOK {
		return 0, nil, damaged("row %d of page %d", i, l.n)
	}
	row, err = l.w.payload(TableLeaf, l.Page, at, length)
	return id, row, cellError(err, l.n, i)
}

// Misplaced returns the error for row i, whose id is not above all ids before it.
func (l *Leaf) Misplaced(i int) error { return damaged("row %d of page %d is out of order", i, l.n) }

// Leaves calls fn for the leaves, in order, that may have rows with from <= id < to, of the table with first page root.
// It ends with the first error of fn. Errors are ErrDamaged, the cause of ctx's end, or of the operating system.
func (t *Trees) Leaves(ctx context.Context, root uint32, from, to int64, fn func(*Leaf) error) error {
	if from >= to {
		return nil
	}
	w, err := t.walk(ctx)
	if err != nil {
		return err
	}
	defer w.end()
	return w.leaves(root, 1, from, to, fn)
}

func (w *walk) leaves(n uint32, depth int, from, to int64, fn func(*Leaf) error) error {
	page, pointers, count, err := w.enter(n, depth, TableLeaf, TableBranch)
	if err != nil {
		return err
	}
	if pointers == 8 {
		return fn(&Leaf{Page: page, w: w, n: n, count: count})
	}
	for i := range count {
		at := int(binary.BigEndian.Uint16(page[pointers+2*i:]))
		highest, _, ok := Varint(page, at+4)
		if !ok {
			return damaged("page %d", n)
		}
		if highest < from {
			continue
		}
		if err := w.leaves(binary.BigEndian.Uint32(page[at:]), depth+1, from, to, fn); err != nil {
			return err
		}
		if highest >= to-1 {
			return nil
		}
	}
	return w.leaves(binary.BigEndian.Uint32(page[8:]), depth+1, from, to, fn)
}

// Rows calls fn for the rows with from <= id < to, in the order of id, of the table with first page root. The row is
// valid until fn returns. It ends and fails as Leaves does.
func (t *Trees) Rows(ctx context.Context, root uint32, from, to int64, fn func(id int64, row []byte) error) error {
	next := from // the least id allowed next: so a table whose pages form a ring ends
	return t.Leaves(ctx, root, from, to, func(l *Leaf) error {
		for i := range l.Len() {
			id, row, err := l.Row(i)
			switch {
			case err != nil:
				return err
			case id < from:
				continue
			case id >= to:
				return nil
			case id < next:
				return l.Misplaced(i)
			}
			next = id + 1
			if err := fn(id, row); err != nil {
				return err
			}
		}
		return nil
	})
}

// RowsOf calls fn for the rows with these ids, which ascend, that the table with first page root has. It reads no other leaves. The row is
// valid until fn returns. It ends and fails as Leaves does.
func (t *Trees) RowsOf(ctx context.Context, root uint32, ids []int64, fn func(id int64, row []byte) error) error {
	if len(ids) == 0 {
		return nil
	}
	w, err := t.walk(ctx)
	if err != nil {
		return err
	}
	defer w.end()
	return w.rowsOf(root, 1, ids, fn)
}

func (w *walk) rowsOf(n uint32, depth int, ids []int64, fn func(id int64, row []byte) error) error {
	page, pointers, count, err := w.enter(n, depth, TableLeaf, TableBranch)
	if err != nil {
		return err
	}
	if pointers == 8 {
		return (&Leaf{Page: page, w: w, n: n, count: count}).rowsOf(ids, fn)
	}
	for i := range count {
		at := int(binary.BigEndian.Uint16(page[pointers+2*i:]))
		highest, _, ok := Varint(page, at+4)
		if !ok {
			return damaged("page %d", n)
		}
		here := sort.Search(len(ids), func(i int) bool { return ids[i] > highest })
		if here == 0 {
			continue
		}
		if err := w.rowsOf(binary.BigEndian.Uint32(page[at:]), depth+1, ids[:here], fn); err != nil {
			return err
		}
		if ids = ids[here:]; len(ids) == 0 {
			return nil
		}
	}
	return w.rowsOf(binary.BigEndian.Uint32(page[8:]), depth+1, ids, fn)
}

func (l *Leaf) rowsOf(ids []int64, fn func(id int64, row []byte) error) error {
	for i := range l.Len() {
		id, row, err := l.Row(i)
		if err != nil {
			return err
		}
		for ids[0] < id {
			if ids = ids[1:]; len(ids) == 0 {
				return nil
			}
		}
		if id == ids[0] {
			if err := fn(id, row); err != nil {
				return err
			}
		}
	}
	return nil
}
