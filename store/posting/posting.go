// Package posting packs the connections of an endpoint into lists and reads them: task, shape and id of each. It is the
// only index of a sealed segment. It knows numbers, and nothing of SQL or their meaning. Its input may come from a
// hostile file; reading it costs no more than its length.
//
// docs/format.md defines the bytes. All numbers are varints of encoding/binary; a difference wraps modulo 2^64, so that
// any number can be written.
package posting

import "encoding/binary"

// MostBytes is the longest list. If a row of a table without rowid takes more than 1002 bytes, its end is on another
// page (pages of 4096 bytes: https://sqlite.org/fileformat2.html#cell_payload_overflow_pages), which costs one more read
// and is never full. Besides the list, a row has a header of up to 9 bytes and six numbers of up to 8. Four rows fill a
// page.
const MostBytes = 944

// Row is one row of connection.
type Row struct {
	Remote, Task, Shape, ID int64
	Connects                int64 // of this row, at least 1
}

// less is the packing order.
func (r *Row) less(s *Row) bool {
	switch {
	case r.Remote != s.Remote:
		return r.Remote < s.Remote
	case r.Task != s.Task:
		return r.Task < s.Task
	case r.Shape != s.Shape:
		return r.Shape < s.Shape
	}
	return r.ID < s.ID
}

// Part is a list with the columns of its table row. The list is valid until the next part.
type Part struct {
	Remote, Number int64
	Rows, Connects int64
	First, Last    int64 // lowest and highest id
	List           []byte
}

// uvarintLen returns the length of a number in binary.AppendUvarint's encoding.
func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// zigzag maps a signed number to an unsigned one as binary.AppendVarint does.
func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// uvarint reads a number at the start of list and returns its length, 0 if there is none. It is binary.Uvarint, faster
// for short numbers.
func uvarint(list []byte) (v uint64, n int) {
	for i, b := range list {
		if b < 0x80 {
			if i == binary.MaxVarintLen64-1 && b > 1 {
				return 0, 0
			}
			return v | uint64(b)<<(7*i&63), i + 1
		}
		if i == binary.MaxVarintLen64-1 {
			return 0, 0
		}
		v |= uint64(b&0x7f) << (7 * i & 63)
	}
	return 0, 0
}
