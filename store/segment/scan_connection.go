package segment

import (
	"encoding/binary"

	"github.com/conntape/conntape/store/sqlitefile"
)

// connectionHeader is the length of a connection's record header: its own length, and one type byte for each of the
// eight columns. All are numbers except the last, the outcome.
const connectionHeader = 9

// references reads the three columns after the id of a connection.
func references(row []byte) (task, remote, shape int64, ok bool) {
	r := sqlitefile.ReadRecord(row)
	r.Null()
	task, remote, shape = r.Int(), r.Int(), r.Int()
	return task, remote, shape, r.OK()
}

// connectionAt reads a connection at an offset of a page. ok is false for a damaged row and for one not in the usual
// form: a length of one byte, an id of nine, a header of eight, and numbers. It stops reading as soon as a row is known
// to be unwanted.
func connectionAt(page []byte, at int, w *Wanted) (id, task, remote, shape int64, wanted, ok bool) {
	const record = 1 + 9
	const most = record + connectionHeader + 3*8
	if at < 0 || at+most > len(page) {
		return 0, 0, 0, 0, false, false
	}
	cell := (*[most]byte)(page[at:])
	x, header, length := binary.BigEndian.Uint64(cell[1:]), binary.BigEndian.Uint64(cell[record:]), int(cell[0])
	if length >= 0x80 || !sqlitefile.IsNineBytes(x) || header&0xfffff0f0f0000000 != connectionHeader<<56 || at+record+length > len(page) {
		return 0, 0, 0, 0, false, false
	}
	kinds := &sqlitefile.Integers
	a, b, c := &kinds[header>>40&15], &kinds[header>>32&15], &kinds[header>>24&15]
	task, body := a.Read(cell[:], record+connectionHeader)
	if a.Valid && body <= record+length && !has(w.Tasks, task) {
		return 0, 0, 0, 0, false, true
	}
	remote, body = b.Read(cell[:], body)
	if b.Valid && body <= record+length && !has(w.Remotes, remote) {
		return 0, 0, 0, 0, false, true
	}
	shape, body = c.Read(cell[:], body)
	ok = a.Valid && b.Valid && c.Valid && body <= record+length
	return sqlitefile.NineBytes(x, cell[record-1]), task, remote, shape, true, ok
}

// has reports whether an id is wanted.
func has(wanted []bool, id int64) bool {
	return wanted == nil || uint64(id) < uint64(len(wanted)) && wanted[id]
}
