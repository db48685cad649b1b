package sqlitefile

import (
	"errors"
	"unicode/utf8"
)

// Value is a value of a row: nil, int64, string or []byte. A row with a float is refused.
type Value any

// errRow means that there is no readable row.
var errRow = errors.New("not a row")

// Record reads the columns of a row in order, without copying. A column of another type, or a missing one, reads as
// zero, and so do all columns after it; OK reports this.
// Format: https://sqlite.org/fileformat2.html, "Record Format".
type Record struct {
	header, body []byte // the unread serial types and values
	bad          bool
}

// ReadRecord starts reading a row.
func ReadRecord(row []byte) Record {
	size, at, ok := Varint(row, 0)
	if !ok || size < int64(at) || size > int64(len(row)) {
		return Record{bad: true}
	}
	return Record{header: row[at:size], body: row[size:]}
}

// OK reports whether all columns had the expected types.
func (r *Record) OK() bool { return !r.bad }

// Null skips a NULL, which stands for the rowid column.
func (r *Record) Null() {
	if r.kind() != 0 {
		r.bad = true
	}
}

// Int reads an integer.
func (r *Record) Int() int64 {
	kind := r.kind()
	if kind < 0 || kind >= int64(len(Integers)) || !Integers[kind].Valid {
		r.bad = true
		return 0
	}
	k := &Integers[kind]
	data := r.take(int64(k.size))
	if r.bad {
		return 0
	}
	var wide [8]byte
	copy(wide[:], data)
	n, _ := k.Read(wide[:], 0)
	return n
}

// Skip skips a column of any type.
func (r *Record) Skip() {
	switch kind := r.kind(); {
	case kind >= 12:
		r.take((kind - 12) / 2)
	case kind != 0 && !r.bad:
		if kind >= int64(len(Integers)) || !Integers[kind].Valid {
			r.bad = true
			return
		}
		r.take(int64(Integers[kind].size))
	}
}

// BlobOrNull reads a blob, valid as long as the row; nil for NULL.
func (r *Record) BlobOrNull() []byte {
	before := *r
	if r.kind() == 0 {
		return nil
	}
	*r = before
	return r.Blob()
}

// Text reads a text, valid as long as the row.
func (r *Record) Text() []byte { return r.bytes(13) }

// Blob reads a blob, valid as long as the row.
func (r *Record) Blob() []byte { return r.bytes(12) }

func (r *Record) bytes(shortest int64) []byte {
	kind := r.kind()
	if kind < shortest || (kind-shortest)%2 != 0 {
		r.bad = true
		return nil
	}
	return r.take((kind - shortest) / 2)
}

// kind reads the serial type of the next column.
func (r *Record) kind() int64 {
	if r.bad || len(r.header) == 0 {
		r.bad = true
		return 0
	}
	if b := r.header[0]; b < 0x80 {
		r.header = r.header[1:]
		return int64(b)
	}
	kind, at, ok := Varint(r.header, 0)
	if !ok {
		r.bad = true
		return 0
	}
	r.header = r.header[at:]
	return kind
}

// take reads bytes of a value.
func (r *Record) take(size int64) []byte {
	if r.bad || size > int64(len(r.body)) {
		r.bad = true
		return nil
	}
	data := r.body[:size]
	r.body = r.body[size:]
	return data
}

// mostColumns limits the columns of a row; more are taken for damage.
const mostColumns = 100

// decodeRecord reads a row with columns of any type. It copies the values.
func decodeRecord(payload []byte) (row []Value, err error) {
	r := ReadRecord(payload)
	for !r.bad && len(r.header) > 0 && len(row) < mostColumns {
		row = append(row, r.value())
	}
	if r.bad || len(r.header) > 0 {
		return nil, errRow
	}
	return row, nil
}

// value reads a column of any type.
func (r *Record) value() Value {
	before := *r
	switch kind := r.kind(); {
	case kind == 0:
		return nil
	case kind < 12:
		*r = before
		return r.Int()
	case kind%2 == 0:
		*r = before
		return append([]byte{}, r.Blob()...)
	}
	*r = before
	text := r.Text()
	r.bad = r.bad || !utf8.Valid(text)
	return string(text)
}
