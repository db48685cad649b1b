package sqlitefile

import (
	"context"
	"encoding/binary"
)

// Search describes the wanted rows of an index or of a table without rowid. In such a b-tree branches have rows too, in
// key order.
type Search struct {
	// Before reports whether a row, and so every row before it, comes before the wanted ones.
	Before func(row []byte) bool
	// Row gets the candidate rows in order; done: no later row is wanted. The row is valid until Row returns.
	Row func(row []byte) (done bool, err error)
}

// Search passes the wanted rows, and some others, of the index with first page root to s.Row. It ends with the first
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
