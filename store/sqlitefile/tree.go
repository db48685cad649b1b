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

// SQLite takes some 200 ns for a row and more for a text, and 1 ms to open a database. So whoever reads a whole table, or
// looks for a few rows of an index in many databases, reads the b-trees page by page.
// Format: https://sqlite.org/fileformat2.html, "B-tree Pages".

// deepest bounds the pages from the root to a leaf. Each but the root has two children at least, of at most 2^32.
const deepest = 34

// readAhead is how many pages are read at a time.
const readAhead = 16

// Trees reads the b-trees of a database that nobody writes, and that has no WAL. Each page is checked if the database has
// sums. It is safe for concurrent use.
type Trees struct {
	file  *os.File
	info  os.FileInfo
	pages uint32 // in the file
	sums  *Sums  // nil: it has none
}

// OpenTrees reads the b-trees of a file, which it owns from now on, whether it returns an error or not. Errors are
// ErrDamaged if its sums are, or of the operating system.
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

// Info describes the file as it was opened.
func (t *Trees) Info() os.FileInfo { return t.info }

// HasSums reports whether each page is checked.
func (t *Trees) HasSums() bool { return t.sums != nil }

// Close closes the file.
func (t *Trees) Close() error { return t.file.Close() }

// walk is one way through a tree.
type walk struct {
	*Trees
	ctx      context.Context
	seen     uint32            // pages
	branches []*[PageSize]byte // from the root to where it is

	ahead      [readAhead * PageSize]byte
	first, got uint32 // the pages in it
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

// walks are those that ended, whose rooms are used again: a look-up in each of thousands of databases would spend its time
// on clearing new ones.
var walks = sync.Pool{New: func() any { return new(walk) }}

// end ends the walk: nothing that it read is good any more.
func (w *walk) end() {
	w.Trees, w.ctx = nil, nil
	walks.Put(w)
}

// read returns a page, which is good until the next is read.
func (w *walk) read(n uint32) ([]byte, error) {
	if n < 2 || n > w.pages {
		return nil, damaged("no page %d", n)
	}
	if n < w.first || n-w.first >= w.got {
		ahead := w.ahead[:PageSize]
		if n == w.first+w.got {
			ahead = w.ahead[:] // it goes on, and may go on
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

// enter reads a page of a b-tree, of depth 1 at its root: a leaf of one kind or a branch of the other. A branch is copied,
// as its children are read into the same room. It returns the offset of the pointers to its cells, and how many there are.
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

// rest reads a page with the rest of a row, and leaves the page that was read before as it is.
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

// payload returns a row of a length whose bytes begin at an offset of a page. What is not on the page is on a chain of
// pages of its own.
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

// cellError says that a cell is not what it should be. An error of the operating system is returned as it is.
func cellError(err error, n uint32, i int) error {
	if errors.Is(err, errRow) {
		return damaged("row %d of page %d", i, n)
	}
	return err
}

// overflow appends the rest of a row, which is on a chain of pages.
func overflow(row []byte, length int, next uint32, read func(n uint32) ([]byte, error)) ([]byte, error) {
	for len(row) < length {
		page, err := read(next)
		if err != nil {
			return nil, fmt.Errorf("the rest of a row: %w", err)
		}
		next = binary.BigEndian.Uint32(page)
		row = append(row, page[4:4+min(len(page)-4, length-len(row))]...) // so a ring ends too
	}
	return row, nil
}
