package sqlitefile

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// Value is a value of a row: nil, int64, string or []byte. A row with a float is taken for none.
type Value any

// errRow says that there is no row, or none that can be read.
var errRow = errors.New("not a row")

// Varint reads a number of SQLite's that begins at an offset of data: big endian, seven bits a byte, nine bytes at the most,
// of which the last has eight. next is the offset behind it.
func Varint(data []byte, at int) (v int64, next int, ok bool) {
	var u uint64
	for i := range 9 {
		if at < 0 || at >= len(data) {
			return 0, at, false
		}
		b := data[at]
		at++
		if i == 8 {
			return int64(u<<8 | uint64(b)), at, true
		}
		u = u<<7 | uint64(b&0x7f)
		if b < 0x80 {
			return int64(u), at, true
		}
	}
	return 0, at, false
}

// mostColumns bounds the columns that a row is believed to have.
const mostColumns = 100

// decodeRecord reads a row: a header with the type of each column, then the values.
func decodeRecord(payload []byte) ([]Value, error) {
	size, at, ok := Varint(payload, 0)
	if !ok || size < int64(at) || size > int64(len(payload)) {
		return nil, errRow
	}
	body := payload[size:]
	var row []Value
	for at < int(size) {
		var kind int64
		if kind, at, ok = Varint(payload[:size], at); !ok || len(row) == mostColumns {
			return nil, errRow
		}
		v, rest, ok := decodeValue(kind, body)
		if !ok {
			return nil, errRow
		}
		row, body = append(row, v), rest
	}
	return row, nil
}

// decodeValue reads a value of a serial type.
func decodeValue(kind int64, body []byte) (v Value, rest []byte, ok bool) {
	var size int64
	switch {
	case kind >= 12:
		size = (kind - 12) / 2
	case kind >= 0 && kind <= 6:
		size = [...]int64{0, 1, 2, 3, 4, 6, 8}[kind]
	case kind == 8 || kind == 9:
	default: // a float, or reserved
		return nil, nil, false
	}
	if size > int64(len(body)) {
		return nil, nil, false
	}
	data, rest := body[:size], body[size:]
	switch {
	case kind == 0:
		return nil, rest, true
	case kind == 8 || kind == 9:
		return kind - 8, rest, true
	case kind < 7:
		var wide [8]byte
		if data[0]&0x80 != 0 {
			wide = [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		}
		copy(wide[8-size:], data)
		return int64(binary.BigEndian.Uint64(wide[:])), rest, true
	case kind%2 == 0:
		return append([]byte{}, data...), rest, true
	}
	return string(data), rest, utf8.Valid(data)
}
