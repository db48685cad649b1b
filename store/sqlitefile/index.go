package sqlitefile

import (
	"context"
	"encoding/binary"
)

// Search is what is looked for in an index, or in a table without rowid, which is a b-tree whose branches have rows as its
// leaves do, in the order of its key.
type Search struct {
	// Before reports whether a row of a branch, and so every row before it, is none of those that are looked for.
	Before func(row []byte) bool
	// Row is given the rows, in order, that may be looked for; done: no row behind it is. The row is good until it returns.
	Row func(row []byte) (done bool, err error)
}

// Search reads the rows of the index whose first page is root that are looked for, and some others. It ends with the first
// error of s.Row. Errors are ErrDamaged, the cause of ctx's end, or of the operating system.
func (t *Trees) Search(ctx context.Context, root uint32, s Search) error {
	w, err := t.walk(ctx)
	if err != nil {
		return err
	}
	defer w.end()
	_, err = w.search(root, 1, &s)
	return err
}

func (w *walk) search(n uint32, depth int, s *Search) (done bool, err error) {
	page, pointers, count, err := w.enter(n, depth, IndexLeaf, IndexBranch)
	if err != nil {
		return false, err
	}
	branch := pointers == 12
	for i := range count {
		child := int(binary.BigEndian.Uint16(page[pointers+2*i:]))
		at := child
		if branch {
			at += 4
		}
		length, at, ok := Varint(page, at)
		if !ok {
			return false, damaged("row %d of page %d", i, n)
		}
		row, err := w.payload(IndexLeaf, page, at, length)
		if err != nil {
			return false, cellError(err, n, i)
		}
		if branch {
			if s.Before(row) {
				continue
			}
			if done, err := w.search(binary.BigEndian.Uint32(page[child:]), depth+1, s); done || err != nil {
				return done, err
			}
		}
		if done, err := s.Row(row); done || err != nil {
			return done, err
		}
	}
	if branch {
		return w.search(binary.BigEndian.Uint32(page[8:]), depth+1, s)
	}
	return false, nil
}
