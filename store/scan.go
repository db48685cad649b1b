package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/sqlitefile"
)

// A segment that is not sealed has no postings, and who counts over it reads every connection; whoever counts over any
// segment reads its endpoints. SQLite takes some 200 ns for a row and more for a text; so the leaves of a table are read
// here, page by page. They are those of a file that nobody writes: a private copy, or a segment that is closed. SQLite
// has it open without locks, so that this descriptor can drop none.
// Format: https://sqlite.org/fileformat2.html, "B-tree Pages".

// branchOfTable is the kind of a b-tree page that leads to others.
const branchOfTable = 0x05

// deepest bounds the pages from the root to a leaf. Each but the root has two children at least, of at most 2^32.
const deepest = 34

// readAhead is how many pages are read at a time.
const readAhead = 16

// tableFile reads tables of a segment.
type tableFile struct {
	file  *os.File
	info  os.FileInfo
	pages uint32            // in the file
	sums  *sqlitefile.Sums  // nil: it is not sealed
	roots map[string]uint32 // first pages of tables and indexes
}

// openTables opens a segment, which SQLite need not have open yet.
func openTables(path string) (*tableFile, error) {
	file, err := openForCopy(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	t := &tableFile{file: file, info: info, pages: uint32(min(info.Size()/pageSize, 1<<32-1)), roots: map[string]uint32{}}
	switch t.sums, err = sqlitefile.ReadSums(file, info.Size()); {
	case errors.Is(err, sqlitefile.ErrNoSums) && info.Mode().Perm()&0o222 == 0:
		file.Close()
		return nil, fmt.Errorf("%w: it is sealed, and %w", ErrDamaged, err)
	case errors.Is(err, sqlitefile.ErrNoSums): // a copy of what is recorded
	case err != nil:
		file.Close()
		return nil, classify(err)
	default:
		t.pages = t.sums.Pages()
	}
	return t, nil
}

// find finds the tables and indexes of the segment, which the connection is to.
func (t *tableFile) find(conn *sqlite.Conn) error {
	return execOn(conn, func(q *sqlite.Stmt) error { t.roots[q.ColumnText(0)] = uint32(q.ColumnInt64(1)); return nil },
		`SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0`)
}

// isAt reports whether the file is the one that a path leads to: a segment that is sealed is another file then.
func (t *tableFile) isAt(path string) bool {
	there, err := os.Stat(path)
	return err == nil && os.SameFile(t.info, there)
}

// Wanted says by their ids which tasks and endpoints connections are wanted of; nil: of any.
type Wanted struct{ Tasks, Remotes []bool }

// ScanConnections reads the connections of a segment, by its place among Segments, whose id is not below from and below
// to, in the order of their ids: those that are wanted, and maybe others. It ends with the first error of fn, which is
// given the ids of the row and of what it refers to.
func (t *Tape) ScanConnections(ctx context.Context, segment int, from, to int64, wanted Wanted, fn func(id, task, remote, shape int64) error) error {
	s := &scanning{from: from, to: to, wanted: wanted, connection: fn, fn: func(id int64, row []byte) error {
		task, remote, shape, ok := references(row)
		if !ok {
			return fmt.Errorf("%w: connection %d", ErrDamaged, id)
		}
		return fn(id, task, remote, shape)
	}}
	return t.scan(ctx, segment, "connection", s, s.page)
}

// ScanEndpoints reads the endpoints of a segment, in the order of their ids. The address is good until fn returns.
func (t *Tape) ScanEndpoints(ctx context.Context, segment int, fn func(id, family int64, address []byte, port int64) error) error {
	s := &scanning{from: -1 << 63, to: 1<<63 - 1, fn: func(id int64, row []byte) error {
		family, address, port, ok := place(row)
		if !ok {
			return fmt.Errorf("%w: endpoint %d", ErrDamaged, id)
		}
		return fn(id, family, address, port)
	}}
	return t.scan(ctx, segment, "endpoint", s, s.page)
}

func (t *Tape) scan(ctx context.Context, segment int, table string, s *scanning, page func(n uint32, depth int) error) error {
	seg := t.segs[segment]
	tables, release, err := t.tablesOf(segment)
	if err != nil {
		return err
	}
	defer release()
	if err := tables.scan(ctx, table, s, page); err != nil {
		if other := (*Error)(nil); errors.Is(err, ErrDamaged) && !errors.As(err, &other) { // else fn read another segment
			seg.watch.Found(seg.file, err)
		}
		return &Error{Op: "read segment", Path: seg.info.Path, Err: err, Hint: hintFor(err)}
	}
	return nil
}

// scanning is one run over a table.
type scanning struct {
	*tableFile
	ctx      context.Context
	from, to int64
	fn       func(id int64, row []byte) error
	// What is done with a connection that can be read fast, and which ones are passed over; nil: none can.
	connection func(id, task, remote, shape int64) error
	wanted     Wanted

	last  int64 // id of the row before
	begun bool
	seen  uint32 // pages

	ahead      [readAhead * pageSize]byte
	first, got uint32 // the pages in it
}

func (t *tableFile) scan(ctx context.Context, table string, s *scanning, page func(n uint32, depth int) error) error {
	if s.from >= s.to {
		return nil
	}
	s.tableFile, s.ctx = t, ctx
	if t.sums == nil {
		var header [18]byte
		if _, err := t.file.ReadAt(header[:], 0); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if size := binary.BigEndian.Uint16(header[16:]); size != pageSize {
			return fmt.Errorf("%w: pages of %d bytes", ErrDamaged, size)
		}
	}
	return page(t.roots[table], 1)
}

// read returns a page, which is good until the next is read.
func (s *scanning) read(n uint32) ([]byte, error) {
	if n < 2 || n > s.pages {
		return nil, fmt.Errorf("%w: no page %d", ErrDamaged, n)
	}
	if n < s.first || n-s.first >= s.got {
		ahead := s.ahead[:pageSize]
		if n == s.first+s.got {
			ahead = s.ahead[:] // it goes on, and may go on
		}
		got, err := s.file.ReadAt(ahead, int64(n-1)*pageSize)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if s.first, s.got = n, uint32(got/pageSize); s.got == 0 {
			return nil, fmt.Errorf("%w: no page %d", ErrDamaged, n)
		}
	}
	at := (n - s.first) * pageSize
	page := s.ahead[at : at+pageSize]
	if s.sums != nil {
		if err := s.sums.Check(n, page); err != nil {
			return nil, classify(err)
		}
	}
	return page, nil
}

// enter reads a page of a b-tree.
func (s *scanning) enter(n uint32) ([]byte, error) {
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	if s.seen++; s.seen > s.pages {
		return nil, fmt.Errorf("%w: its pages lead back to each other", ErrDamaged)
	}
	return s.read(n)
}

// page reads the rows below a page.
func (s *scanning) page(n uint32, depth int) error {
	page, err := s.enter(n)
	if err != nil {
		return err
	}
	switch {
	case page[0] == byte(sqlitefile.TableLeaf):
		return s.leaf(n, page)
	case page[0] != branchOfTable || depth == deepest:
		return fmt.Errorf("%w: page %d is of no table", ErrDamaged, n)
	}
	// Its children are read into the same room.
	var branch [pageSize]byte
	copy(branch[:], page)
	count := int(binary.BigEndian.Uint16(branch[3:]))
	if 12+2*count > pageSize {
		return fmt.Errorf("%w: page %d is too small", ErrDamaged, n)
	}
	for i := range count {
		at := int(binary.BigEndian.Uint16(branch[12+2*i:]))
		highest, _, ok := sqlitefile.Varint(branch[:], at+4)
		if !ok {
			return fmt.Errorf("%w: page %d", ErrDamaged, n)
		}
		if highest < s.from {
			continue
		}
		if err := s.page(binary.BigEndian.Uint32(branch[at:]), depth+1); err != nil {
			return err
		}
		if highest >= s.to-1 {
			return nil
		}
	}
	return s.page(binary.BigEndian.Uint32(branch[8:]), depth+1)
}

// leaf reads the rows of a page.
func (s *scanning) leaf(n uint32, page []byte) error {
	count := int(binary.BigEndian.Uint16(page[3:]))
	if 8+2*count > len(page) {
		return fmt.Errorf("%w: page %d is too small", ErrDamaged, n)
	}
	for i := range count {
		at := int(binary.BigEndian.Uint16(page[8+2*i:]))
		if s.connection != nil {
			id, task, remote, shape, wanted, ok := connectionAt(page, at, &s.wanted)
			if ok && !wanted {
				continue
			}
			if ok && id >= s.to {
				return nil
			}
			if ok && id >= s.from && (!s.begun || id > s.last) {
				s.begun, s.last = true, id
				if err := s.connection(id, task, remote, shape); err != nil {
					return err
				}
				continue
			}
		}
		length, at, ok := sqlitefile.Varint(page, at)
		id, at, idOK := rowid(page, at)
		if !ok || !idOK || length < 2 || length > sqlitefile.MostRowBytes {
			return fmt.Errorf("%w: row %d of page %d", ErrDamaged, i, n)
		}
		if id < s.from {
			continue
		}
		if id >= s.to {
			return nil
		}
		// A table that leads back to what was read would have no end.
		if s.begun && id <= s.last {
			return fmt.Errorf("%w: row %d of page %d is out of order", ErrDamaged, i, n)
		}
		s.begun, s.last = true, id
		if length > mostOnPage {
			page = slices.Clone(page) // the rest of the row is read into its room
			row, err := s.long(page, at, int(length))
			if err == nil {
				err = s.fn(id, row)
			}
			if err != nil {
				return err
			}
			continue
		}
		if length > int64(len(page)-at) {
			return fmt.Errorf("%w: row %d of page %d", ErrDamaged, i, n)
		}
		if err := s.fn(id, page[at:at+int(length)]); err != nil {
			return err
		}
	}
	return nil
}

// rowid is sqlitefile.Varint, faster for numbers of nine bytes, as times are.
func rowid(data []byte, at int) (id int64, next int, ok bool) {
	if at < 0 || at+9 > len(data) {
		return sqlitefile.Varint(data, at)
	}
	x := binary.BigEndian.Uint64(data[at:])
	if x&allMore != allMore {
		return sqlitefile.Varint(data, at)
	}
	return nineBytes(x, data[at+8]), at + 9, true
}

// allMore are the bits that say of each of eight bytes that another follows.
const allMore = 0x80 * 0x0101010101010101

// nineBytes is the number of a varint of nine bytes.
func nineBytes(x uint64, last byte) int64 {
	// Eight times seven bits move together.
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	x = x&0x000000000fffffff | x&0x0fffffff00000000>>4
	return int64(x<<8 | uint64(last))
}

// connectionAt reads a connection at an offset of a page, not ok: it is not of the form that nearly all have, or damaged.
// That is: a length of one byte, an id of nine, a header of eight, and numbers. One that is not wanted is not read further
// than it takes to know that.
func connectionAt(page []byte, at int, w *Wanted) (id, task, remote, shape int64, wanted, ok bool) {
	const record = 1 + 9
	const most = record + connectionHeader + 3*8
	if at < 0 || at+most > len(page) {
		return 0, 0, 0, 0, false, false
	}
	cell := (*[most]byte)(page[at:])
	x, header, length := binary.BigEndian.Uint64(cell[1:]), binary.BigEndian.Uint64(cell[record:]), int(cell[0])
	if length >= 0x80 || x&allMore != allMore || header&0xfffff0f0f0000000 != connectionHeader<<56 || at+record+length > len(page) {
		return 0, 0, 0, 0, false, false
	}
	a, b, c := &numberKinds[header>>40&15], &numberKinds[header>>32&15], &numberKinds[header>>24&15]
	task, body := a.read(cell[:], record+connectionHeader)
	if a.valid && body <= record+length && !has(w.Tasks, task) {
		return 0, 0, 0, 0, false, true
	}
	remote, body = b.read(cell[:], body)
	if b.valid && body <= record+length && !has(w.Remotes, remote) {
		return 0, 0, 0, 0, false, true
	}
	shape, body = c.read(cell[:], body)
	ok = a.valid && b.valid && c.valid && body <= record+length
	return nineBytes(x, cell[record-1]), task, remote, shape, true, ok
}

// has reports whether an id is one of those that are wanted.
func has(wanted []bool, id int64) bool {
	return wanted == nil || uint64(id) < uint64(len(wanted)) && wanted[id]
}

// numberKind says how an integer of a serial type is read from eight bytes that begin with its own.
type numberKind struct {
	mask, add int64
	shift     uint8
	size      uint8
	valid     bool
}

func (k *numberKind) read(data []byte, at int) (n int64, next int) {
	return int64(binary.BigEndian.Uint64(data[at:]))>>k.shift&k.mask + k.add, at + int(k.size)
}

// numberKinds are those of serial types below 16.
var numberKinds = func() (kinds [16]numberKind) {
	for i, size := range []uint8{1, 2, 3, 4, 6, 8} {
		kinds[1+i] = numberKind{mask: -1, shift: 64 - 8*size, size: size, valid: true}
	}
	kinds[8].valid, kinds[9] = true, numberKind{add: 1, valid: true}
	return kinds
}()

// Of a row that is longer than mostOnPage some is on pages of its own; leastOnPage or more is not. ("B-tree Cell Format")
const (
	mostOnPage  = pageSize - 35
	leastOnPage = (pageSize-12)*32/255 - 23
)

// long returns a row that begins at an offset of a page and goes on elsewhere.
func (s *scanning) long(page []byte, at, length int) ([]byte, error) {
	local := leastOnPage + (length-leastOnPage)%(pageSize-4)
	if local > mostOnPage {
		local = leastOnPage
	}
	if at+local+4 > len(page) {
		return nil, fmt.Errorf("%w: a row is longer than its page", ErrDamaged)
	}
	row, next := slices.Clone(page[at:at+local]), binary.BigEndian.Uint32(page[at+local:])
	for len(row) < length {
		page, err := s.read(next)
		if err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(page)
		row = append(row, page[4:4+min(pageSize-4, length-len(row))]...) // so a ring ends too
	}
	return row, nil
}

// connectionHeader is the length of the header of a connection: of itself, and a byte for the type of each of its seven
// columns, which are numbers.
const connectionHeader = 8

// references reads the three columns behind the id of a connection.
func references(row []byte) (task, remote, shape int64, ok bool) {
	if len(row) < connectionHeader || row[0] != connectionHeader || row[1] != 0 {
		return 0, 0, 0, false
	}
	body := row[connectionHeader:]
	if task, body, ok = integer(row[2], body); !ok {
		return 0, 0, 0, false
	}
	if remote, body, ok = integer(row[3], body); !ok {
		return 0, 0, 0, false
	}
	shape, _, ok = integer(row[4], body)
	return task, remote, shape, ok
}

// place reads the three columns behind the id of an endpoint.
func place(row []byte) (family int64, address []byte, port int64, ok bool) {
	size, at, ok := sqlitefile.Varint(row, 0)
	if !ok || size < int64(at)+5 || size > int64(len(row)) || row[at] != 0 {
		return 0, nil, 0, false
	}
	header, body := row[:size], row[size:]
	if family, body, ok = integer(header[at+1], body); !ok {
		return 0, nil, 0, false
	}
	kind, at, ok := sqlitefile.Varint(header, at+2)
	if length := (kind - 13) / 2; !ok || kind < 13 || kind%2 == 0 || length > int64(len(body)) || at == len(header) {
		return 0, nil, 0, false
	} else {
		address, body = body[:length], body[length:]
	}
	port, _, ok = integer(header[at], body)
	return family, address, port, ok
}

// integer reads a number of a serial type from 1 to 6, or of 8 and 9, which stand for 0 and 1.
func integer(kind byte, body []byte) (n int64, rest []byte, ok bool) {
	switch {
	case kind == 1 && len(body) >= 1:
		return int64(int8(body[0])), body[1:], true
	case kind == 2 && len(body) >= 2:
		return int64(int16(binary.BigEndian.Uint16(body))), body[2:], true
	case kind == 3 && len(body) >= 3:
		return int64(int8(body[0]))<<16 | int64(binary.BigEndian.Uint16(body[1:])), body[3:], true
	case kind == 4 && len(body) >= 4:
		return int64(int32(binary.BigEndian.Uint32(body))), body[4:], true
	case kind == 5 && len(body) >= 6:
		return int64(int16(binary.BigEndian.Uint16(body)))<<32 | int64(binary.BigEndian.Uint32(body[2:])), body[6:], true
	case kind == 6 && len(body) >= 8:
		return int64(binary.BigEndian.Uint64(body)), body[8:], true
	case kind == 8 || kind == 9:
		return int64(kind - 8), body, true
	}
	return 0, nil, false
}
