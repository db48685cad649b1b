package sqlitefile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// SQLite takes some 200 ns for a row, more for a text, and 1 ms to open a database. So conntape itself reads the b-trees
// to scan a table, or to look up a few index rows in many databases.
// Format: https://sqlite.org/fileformat2.html, "B-tree Pages".

// deepest limits the depth of a tree. Each branch but the root has at least two of at most 2^32 children.
const deepest = 34

// readAhead is the number of pages read at a time.
const readAhead = 16

// Trees reads the b-trees of a database that nobody writes and that has no WAL. It checks each page if the database has
// sums. It is safe for concurrent use.
type Trees struct {
	file  *os.File
	info  os.FileInfo
	pages uint32 // in the file
	sums  *Sums  // nil: none
}

// OpenTrees opens the b-trees of a file. It takes ownership of the file, even if it fails. Errors are ErrDamaged if the
// sums are damaged, or of the operating system.
func OpenTrees(file *os.File) (*Trees, error) {
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	t := &Trees{file: file, info: info, pages: uint32(min(info.Size()/PageSize, 1<<32-1))}
	switch t.sums, err = ReadSums(file, info.Size()); {
	case errors.Is(err, ErrNoSums):
	case err != nil:
		file.Close()
		return nil, err
	default:
		t.pages = t.sums.Pages()
	}
	return t, nil
}

// Info describes the file at opening.
func (t *Trees) Info() os.FileInfo { return t.info }

// HasSums reports whether pages are checked.
func (t *Trees) HasSums() bool { return t.sums != nil }

// Close closes the file.
func (t *Trees) Close() error { return t.file.Close() }

// walk is one traversal of a tree.
type walk struct {
	*Trees
	ctx      context.Context
	seen     uint32            // number of pages read
	branches []*[PageSize]byte // from the root to the current page

	ahead      [readAhead * PageSize]byte
	first, got uint32 // pages in it
}

func (t *Trees) walk(ctx context.Context) (*walk, error) {
	if t.sums == nil {
		var header [18]byte
		if _, err := t.file.ReadAt(header[:], 0); err != nil {
			return nil, damaged("no header: %v", err)
		}
		if size := binary.BigEndian.Uint16(header[16:]); size != PageSize {
			return nil, damaged("pages of %d bytes", size)
		}
	}
	w := walks.Get().(*walk)
	w.Trees, w.ctx, w.seen, w.first, w.got = t, ctx, 0, 0, 0
	return w, nil
}

// walks recycles buffers: a look-up in thousands of databases would spend its time clearing new ones.
var walks = sync.Pool{New: func() any { return new(walk) }}

// end ends the walk and invalidates everything read.
func (w *walk) end() {
	w.Trees, w.ctx = nil, nil
	walks.Put(w)
}

// read returns a page, valid until the next read.
func (w *walk) read(n uint32) ([]byte, error) {
	if n < 2 || n > w.pages {
		return nil, damaged("no page %d", n)
	}
	if n < w.first || n-w.first >= w.got {
		ahead := w.ahead[:PageSize]
		if n == w.first+w.got {
			ahead = w.ahead[:] // sequential: read ahead
		}
		got, err := w.file.ReadAt(ahead, int64(n-1)*PageSize)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if w.first, w.got = n, uint32(got/PageSize); w.got == 0 {
			return nil, damaged("no page %d", n)
		}
	}
	at := (n - w.first) * PageSize
	page := w.ahead[at : at+PageSize]
	if w.sums != nil {
		if err := w.sums.Check(n, page); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// enter reads a b-tree page, at depth 1 for the root: a leaf or a branch of these kinds. It copies a branch because its
// children are read into the same buffer. It returns the offset of the cell pointers and their number.
func (w *walk) enter(n uint32, depth int, leaf, branch Kind) (page []byte, pointers, count int, err error) {
	if w.ctx.Err() != nil {
		return nil, 0, 0, context.Cause(w.ctx)
	}
	if w.seen++; w.seen > w.pages {
		return nil, 0, 0, damaged("its pages lead back to each other")
	}
	if page, err = w.read(n); err != nil {
		return nil, 0, 0, err
	}
	pointers = 8
	switch {
	case page[0] == byte(branch) && depth < deepest:
		pointers = 12
		if len(w.branches) < depth {
			w.branches = append(w.branches, new([PageSize]byte))
		}
		copy(w.branches[depth-1][:], page)
		page = w.branches[depth-1][:]
	case page[0] != byte(leaf):
		return nil, 0, 0, damaged("page %d is of another kind", n)
	}
	count = int(binary.BigEndian.Uint16(page[3:]))
	if pointers+2*count > PageSize {
		return nil, 0, 0, damaged("page %d is too small", n)
	}
	return page, pointers, count, nil
}

// rest reads an overflow page and keeps the current page.
func (w *walk) rest(n uint32) ([]byte, error) {
	if n < 2 || n > w.pages {
		return nil, damaged("no page %d", n)
	}
	page := make([]byte, PageSize)
	if _, err := w.file.ReadAt(page, int64(n-1)*PageSize); err != nil {
		if err == io.EOF {
			err = damaged("no page %d", n)
		}
		return nil, err
	}
	if w.sums != nil {
		return page, w.sums.Check(n, page)
	}
	return page, nil
}

// payload returns a row of this length that begins at an offset of a page. It follows the row's overflow pages.
func (w *walk) payload(kind Kind, page []byte, at int, length int64) ([]byte, error) {
	if length < 2 || length > MostRowBytes {
		return nil, errRow
	}
	here := local(kind, len(page), int(length))
	switch {
	case here == int(length) && here <= len(page)-at:
		return page[at : at+here], nil
	case here == int(length) || here+4 > len(page)-at:
		return nil, errRow
	}
	next := binary.BigEndian.Uint32(page[at+here:])
	return overflow(slices.Clone(page[at:at+here]), int(length), next, w.rest)
}

// cellError returns the error for a bad cell. It returns errors of the operating system unchanged.
func cellError(err error, n uint32, i int) error {
	if errors.Is(err, errRow) {
		return damaged("row %d of page %d", i, n)
	}
	return err
}

// overflow appends the rest of a row from its overflow pages.
func overflow(row []byte, length int, next uint32, read func(n uint32) ([]byte, error)) ([]byte, error) {
	for len(row) < length {
		page, err := read(next)
		if err != nil {
			return nil, fmt.Errorf("the rest of a row: %w", err)
		}
		next = binary.BigEndian.Uint32(page)
		row = append(row, page[4:4+min(len(page)-4, length-len(row))]...) // the length bounds the loop, even if the pages form a ring
	}
	return row, nil
}
