package posting

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// ErrCorrupt means that a list was not made by a builder.
var ErrCorrupt = errors.New("posting is corrupt")

// Reader walks the groups of a list, and the rows of each:
//
//	r := NewReader(list)
//	for r.Next() {
//		for id, connects, ok := r.Row(); ok; id, connects, ok = r.Row() {
//		}
//	}
//	return r.Err()
//
// It allocates nothing, and reads each byte once.
type Reader struct {
	// Of the group.
	Task, Shape    int64
	Rows, Connects int64
	First          int64 // id of its first row, which is its lowest

	rest []byte
	left int64  // unread rows of the group
	more uint64 // connects of the unread rows minus their number
	many bool   // counts are written
	id   int64  // previous id
	some bool   // a group was read before
	bad  bool
}

// NewReader returns a reader of a list.
func NewReader(list []byte) Reader { return Reader{rest: list} }

// Next goes to the next group and skips the unread rows of this one. It returns false at the end and where the list is
// corrupt.
func (r *Reader) Next() bool {
	if r.left > 0 {
		r.skip()
	}
	if r.bad || len(r.rest) == 0 {
		return false
	}
	task, shape, rows, more, first := r.number(), int64(r.number()), r.number(), r.number(), r.number()
	// Each row but the first takes a byte at least.
	if r.bad || rows == 0 || rows > uint64(len(r.rest))+1 || more > 1<<62 {
		return r.corrupt()
	}
	was, shapeWas := r.Task, r.Shape
	r.Task, r.Shape = was+int64(task), shape
	if r.some && (r.Task < was || task == 0 && shape <= shapeWas) {
		return r.corrupt()
	}
	r.Rows, r.Connects = int64(rows), int64(rows+more)
	r.First += int64(first>>1) ^ -int64(first&1)
	r.left, r.more, r.many, r.some = r.Rows, more, more > 0, true
	return true
}

// Row returns the next row of the group.
func (r *Reader) Row() (id, connects int64, ok bool) {
	if r.left == 0 || r.bad {
		return 0, 0, false
	}
	id = r.First
	if r.left < r.Rows {
		step := r.number()
		id = r.id + int64(step)
		if id <= r.id {
			return 0, 0, r.corrupt()
		}
	}
	if r.many {
		more := r.number()
		if r.bad || more > r.more || r.left == 1 && more != r.more {
			return 0, 0, r.corrupt()
		}
		r.more -= more
		connects = int64(more)
	}
	r.id = id
	r.left--
	return id, connects + 1, true
}

// skip skips the unread rows of the group.
func (r *Reader) skip() {
	if r.many {
		for r.left > 0 && !r.bad {
			r.Row()
		}
		return
	}
	numbers := r.left
	if r.left == r.Rows {
		numbers-- // the first is in the head
	}
	i := 0
	for ; numbers > 8 && i+8 <= len(r.rest); i += 8 { // eight bytes end as many numbers as have a clear top bit
		numbers -= int64(bits.OnesCount64(^binary.LittleEndian.Uint64(r.rest[i:]) & 0x8080808080808080))
	}
	for ; numbers > 0 && i < len(r.rest); i++ {
		if r.rest[i] < 0x80 {
			numbers--
		}
	}
	r.rest, r.left = r.rest[i:], 0
	if numbers > 0 {
		r.corrupt()
	}
}

// Err returns ErrCorrupt if the part read so far is corrupt.
func (r *Reader) Err() error {
	if r.bad {
		return ErrCorrupt
	}
	return nil
}

// number reads a number.
func (r *Reader) number() uint64 {
	v, n := uvarint(r.rest)
	if n == 0 {
		r.bad = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// corrupt ends the walk.
func (r *Reader) corrupt() bool {
	r.bad, r.rest, r.left = true, nil, 0
	return false
}
