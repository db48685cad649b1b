package sqlitefile

import "encoding/binary"

// Varint reads SQLite's varint at an offset of data: big endian, seven bits a byte, at most nine bytes; the ninth has
// eight bits. next is the offset after it.
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

// rowid is Varint, faster for nine bytes, the length of times.
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

// allMore has the continuation bit of each of eight bytes.
const allMore = 0x80 * 0x0101010101010101

// IsNineBytes reports whether a varint whose first eight bytes are x, big endian, has nine.
func IsNineBytes(x uint64) bool { return x&allMore == allMore }

// NineBytes returns a nine-byte varint from its first eight bytes, big endian, and its last.
func NineBytes(x uint64, last byte) int64 {
	// Shift the eight groups of seven bits in parallel.
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	x = x&0x000000000fffffff | x&0x0fffffff00000000>>4
	return int64(x<<8 | uint64(last))
}

// Integer describes how to read an integer of a serial type from the eight bytes at its start.
type Integer struct {
	mask, add int64
	shift     uint8
	size      uint8
	Valid     bool // the serial type is an integer
}

// Integers are indexed by serial type, below 16.
var Integers = func() (kinds [16]Integer) {
	for i, size := range []uint8{1, 2, 3, 4, 6, 8} {
		kinds[1+i] = Integer{mask: -1, shift: 64 - 8*size, size: size, Valid: true}
	}
	kinds[8].Valid, kinds[9] = true, Integer{add: 1, Valid: true}
	return kinds
}()

// Read reads an integer at an offset of data, which needs eight bytes there. next is the offset after the integer.
func (k *Integer) Read(data []byte, at int) (n int64, next int) {
	return int64(binary.BigEndian.Uint64(data[at:]))>>k.shift&k.mask + k.add, at + int(k.size)
}
