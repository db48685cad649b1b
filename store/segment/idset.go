package segment

import (
	"math/bits"

	"github.com/conntape/conntape/store/posting"
)

// IDSet is a set of ids of a table whose rows are numbered from 1.
type IDSet struct {
	Words []uint64
	odd   bool // it has an id that no table has
}

// mostIDs limits the memory of a set: 16 MiB. A segment is full before.
const mostIDs = 1 << 27

func (s *IDSet) Add(id int64) {
	w := uint64(id) >> 6
	if w >= uint64(len(s.Words)) && !s.grow(w) {
		return
	}
	s.Words[w] |= 1 << (id & 63)
}

// grow makes room for a word.
func (s *IDSet) grow(w uint64) bool {
	if w >= mostIDs/64 {
		s.odd = true
		return false
	}
	s.Words = append(s.Words, make([]uint64, int(w)+1-len(s.Words))...)
	return true
}

// List returns the stored form of the set, nil if it cannot be stored.
func (s *IDSet) List() []byte {
	if s.odd {
		return nil
	}
	list, before := []byte{}, int64(0)
	for i, word := range s.Words {
		for ; word != 0; word &= word - 1 {
			id := int64(i<<6 + bits.TrailingZeros64(word))
			list = posting.AppendID(list, before, id)
			before = id
		}
	}
	return list
}

func (s *IDSet) Clear() {
	clear(s.Words)
	s.odd = false
}
