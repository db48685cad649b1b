// Package posting packs the connections of an endpoint into lists, and reads them
// again: who made them, how they went, and when each was. It is the one index of a
// sealed segment. It knows numbers alone, nothing of SQL or of what they mean; its
// input may come from a hostile file, and costs no more than its own length.
//
// docs/format.md defines the bytes. All numbers are varints as encoding/binary has
// them; a difference wraps modulo 2^64, so that any numbers can be told.
package posting

import "encoding/binary"

// MostBytes is the length of a list at the most. A row of a table without rowid
// that takes more than 1002 bytes has its end on another page (pages of 4096
// bytes: https://sqlite.org/fileformat2.html#cell_payload_overflow_pages), which
// would be read by itself and never be full. Beside the list, a row has a header of
// up to 9 bytes and six numbers of up to 8. Four of them fill a page.
const MostBytes = 944

// Row is one row of connection.
type Row struct {
	Remote, Task, Shape, ID int64
	Connects                int64 // that it stands for, at least 1
}

// less is the order in which rows are packed.
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

// Part is what a list holds, as the table has it. Its list is valid until the next.
type Part struct {
	Remote, Number int64
	Rows, Connects int64
	First, Last    int64 // lowest and highest id
	List           []byte
}

// uvarintLen is the length of what binary.AppendUvarint appends.
func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// zigzag is what binary.AppendVarint appends as an unsigned one.
func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// uvarint reads a number at the start of list, and returns how many bytes it takes,
// 0 when there is none. It is binary.Uvarint for numbers of a few bytes.
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
