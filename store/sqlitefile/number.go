package sqlitefile

import "encoding/binary"

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

// rowid is Varint, faster for numbers of nine bytes, as times are.
func rowid(data []byte, at int) (id int64, next int, ok bool) {
	if at < 0 || at+9 > len(data) {
		return Varint(data, at)
	}
	x := binary.BigEndian.Uint64(data[at:])
	if !IsNineBytes(x) {
		return Varint(data, at)
	}
	return NineBytes(x, data[at+8]), at + 9, true
}

// allMore are the bits that say of each of eight bytes that another follows.
const allMore = 0x80 * 0x0101010101010101

// IsNineBytes reports whether a varint whose first eight bytes are x, big endian, has nine.
func IsNineBytes(x uint64) bool { return x&allMore == allMore }

// NineBytes is the number of a varint of nine bytes: eight, big endian, and the last.
func NineBytes(x uint64, last byte) int64 {
	// Eight times seven bits move together.
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	x = x&0x000000000fffffff | x&0x0fffffff00000000>>4
	return int64(x<<8 | uint64(last))
}

// Integer says how an integer of a serial type is read from eight bytes that begin with its own.
type Integer struct {
	mask, add int64
	shift     uint8
	size      uint8
	Valid     bool // it is an integer
}

// Integers are those of the serial types below 16, by that type.
var Integers = func() (kinds [16]Integer) {
	for i, size := range []uint8{1, 2, 3, 4, 6, 8} {
		kinds[1+i] = Integer{mask: -1, shift: 64 - 8*size, size: size, Valid: true}
	}
	kinds[8].Valid, kinds[9] = true, Integer{add: 1, Valid: true}
	return kinds
}()

// Read reads a number at an offset of data, which goes on for eight bytes there. next is the offset behind the number.
func (k *Integer) Read(data []byte, at int) (n int64, next int) {
	return int64(binary.BigEndian.Uint64(data[at:]))>>k.shift&k.mask + k.add, at + int(k.size)
}
