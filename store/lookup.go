package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/sqlitefile"
)

// An address is looked for in every segment of a window, and most have never met it. So the index over the addresses is
// read page by page, as in scan.go: that takes a hundredth of what it takes to open the segment with SQLite.

// addressIndex is the index that keeps endpoints unique: over address, port, family, raw.
const addressIndex = "sqlite_autoindex_endpoint_1"

// TextRange is the texts from one to another, byte by byte, both included.
type TextRange struct{ From, To string }

// FindEndpoints reads the endpoints of a segment, by its place among Segments, whose address lies in one of some ranges. It
// ends with the first error of fn. The address is good until fn returns.
func (t *Tape) FindEndpoints(ctx context.Context, segment int, ranges []TextRange, fn func(id, family int64, address []byte, port int64) error) error {
	for _, r := range ranges {
		search := &addressSearch{within: r, fn: fn}
		search.scanning.from, search.scanning.to = -1<<63, 1<<63-1
		err := t.scan(ctx, segment, addressIndex, &search.scanning, func(n uint32, depth int) error {
			_, err := search.page(n, depth)
			return err
		})
		if errors.Is(err, errLongKey) {
			err = t.selectEndpoints(segment, r, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errLongKey: a row of the index is longer than what a page keeps of one.
var errLongKey = errors.New("a long address")

// selectEndpoints does the same with SQLite.
func (t *Tape) selectEndpoints(segment int, r TextRange, fn func(id, family int64, address []byte, port int64) error) error {
	return t.Use(segment, func(conn *sqlite.Conn) error {
		return execOn(conn, func(q *sqlite.Stmt) error {
			return fn(q.ColumnInt64(0), q.ColumnInt64(1), []byte(q.ColumnText(2)), q.ColumnInt64(3))
		}, `SELECT id, family, address, port FROM endpoint WHERE address BETWEEN ? AND ?`, r.From, r.To)
	})
}

// addressSearch is one run over the index.
type addressSearch struct {
	scanning
	within TextRange
	fn     func(id, family int64, address []byte, port int64) error
}

// page reads the rows below a page; done: what follows is beyond the range.
func (s *addressSearch) page(n uint32, depth int) (done bool, err error) {
	read, err := s.enter(n)
	if err != nil {
		return false, err
	}
	var page [pageSize]byte
	copy(page[:], read) // children are read into the same room
	begin := 8
	switch {
	case page[0] == branchOfIndex && depth < deepest:
		begin = 12
	case page[0] != byte(sqlitefile.IndexLeaf):
		return false, fmt.Errorf("%w: page %d is of no index", ErrDamaged, n)
	}
	count := int(binary.BigEndian.Uint16(page[3:]))
	if begin+2*count > pageSize {
		return false, fmt.Errorf("%w: page %d is too small", ErrDamaged, n)
	}
	for i := range count {
		at := int(binary.BigEndian.Uint16(page[begin+2*i:]))
		child := at
		if begin == 12 {
			at += 4
		}
		length, at, ok := sqlitefile.Varint(page[:], at)
		switch {
		case ok && length > mostOnIndexPage && length < sqlitefile.MostRowBytes:
			return false, errLongKey
		case !ok || length < 2 || int(length) > pageSize-at:
			return false, fmt.Errorf("%w: row %d of page %d", ErrDamaged, i, n)
		}
		id, family, address, port, ok := indexedPlace(page[at : at+int(length)])
		if !ok {
			return false, fmt.Errorf("%w: row %d of page %d", ErrDamaged, i, n)
		}
		if string(address) < s.within.From {
			continue
		}
		if begin == 12 {
			if done, err := s.page(binary.BigEndian.Uint32(page[child:]), depth+1); done || err != nil {
				return done, err
			}
		}
		if string(address) > s.within.To {
			return true, nil
		}
		if err := s.fn(id, family, address, port); err != nil {
			return false, err
		}
	}
	if begin == 12 {
		return s.page(binary.BigEndian.Uint32(page[8:]), depth+1)
	}
	return false, nil
}

// indexedPlace reads a row of the index: address, port, family, raw, and the id of the endpoint.
func indexedPlace(row []byte) (id, family int64, address []byte, port int64, ok bool) {
	size, at, ok := sqlitefile.Varint(row, 0)
	if !ok || size < 6 || size > int64(len(row)) {
		return 0, 0, nil, 0, false
	}
	header, body := row[:size], row[size:]
	length := func(odd int64) (n int64, ok bool) {
		var kind int64
		kind, at, ok = sqlitefile.Varint(header, at)
		n = (kind - 12 - odd) / 2
		return n, ok && kind >= 12+odd && kind%2 == odd && n <= int64(len(body))
	}
	number := func() (n int64, ok bool) {
		if at >= len(header) {
			return 0, false
		}
		n, body, ok = integer(header[at], body)
		at++
		return n, ok
	}
	n, ok := length(1)
	if !ok {
		return 0, 0, nil, 0, false
	}
	address, body = body[:n], body[n:]
	if port, ok = number(); ok {
		family, ok = number()
	}
	if !ok {
		return 0, 0, nil, 0, false
	}
	if n, ok = length(0); !ok {
		return 0, 0, nil, 0, false
	}
	body = body[n:]
	id, ok = number()
	return id, family, address, port, ok
}

// tablesOf returns the tables of a segment. It is not opened with SQLite if the manifest tells where they begin.
func (t *Tape) tablesOf(segment int) (*tableFile, func(), error) {
	seg := t.segs[segment]
	if seg.roots != nil {
		tables, err := openTables(seg.file)
		if err == nil && os.SameFile(tables.info, seg.stat) {
			for name, root := range seg.roots {
				tables.roots[name] = uint32(root)
			}
			return tables, func() { tables.file.Close() }, nil
		}
		if err == nil {
			tables.file.Close()
		}
	}
	r, release, err := t.borrow(segment) // which also says what is wrong
	if err != nil {
		return nil, nil, err
	}
	return r.tables, release, nil
}
