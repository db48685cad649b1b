// Package pairs has sets and tables of pairs of small numbers, without pointers. It knows nothing of what they number.
package pairs

import "math/bits"

// Table numbers pairs of small numbers in order of appearance. It takes some 16 bytes a pair, without pointers.
type Table struct {
	slots []pairSlot // a power of two; more than half are free
	Keys  []uint64   // in the order of numbers
}

type pairSlot struct {
	key    uint64
	number int32 // from 1; 0: free
}

func Of(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

// Add returns the number of a pair, and whether it is new.
func (t *Table) Add(key uint64) (number int32, isNew bool) {
	if 2*len(t.Keys) >= len(t.slots) {
		t.grow()
	}
	slot := t.find(key)
	if isNew = slot.number == 0; isNew {
		t.Keys = append(t.Keys, key)
		*slot = pairSlot{key, int32(len(t.Keys))}
	}
	return slot.number - 1, isNew
}

// find returns the slot of a pair, or its free slot.
func (t *Table) find(key uint64) *pairSlot {
	mask := uint64(len(t.slots) - 1)
	// The numbers are dense, so a product spreads them (Fibonacci hashing).
	for at := key * 0x9e3779b97f4a7c15 >> (64 - bits.Len64(mask)); ; at = (at + 1) & mask {
		if slot := &t.slots[at]; slot.number == 0 || slot.key == key {
			return slot
		}
	}
}

func (t *Table) grow() {
	t.slots = make([]pairSlot, max(1024, 2*len(t.slots)))
	for i, key := range t.Keys {
		*t.find(key) = pairSlot{key, int32(i + 1)}
	}
}

// Set is a set of pairs of numbers below two limits: a bitmap and, for pairs with which it would be too large, a table.
type Set struct {
	width uint64
	bits  []uint64
	table Table
}

// NewSet returns an empty set of pairs below height and width. Its bitmap has at most so many bits.
func NewSet(height, width int, most int64) *Set {
	size := min(uint64(height)*uint64(width), uint64(most))
	return &Set{width: uint64(width), bits: make([]uint64, (size+63)/64)}
}

// Add adds a pair.
func (s *Set) Add(a, b int32) {
	at := uint64(a)*s.width + uint64(b)
	if at/64 >= uint64(len(s.bits)) {
		s.table.Add(Of(a, b))
		return
	}
	s.bits[at/64] |= 1 << (at % 64)
}

// InTable returns the number of pairs beyond the bitmap.
func (s *Set) InTable() int { return len(s.table.Keys) }

// Each calls f with each pair. A nil set has none.
func (s *Set) Each(f func(a, b int32)) {
	if s == nil {
		return
	}
	for i, word := range s.bits {
		for ; word != 0; word &= word - 1 {
			at := uint64(i*64 + bits.TrailingZeros64(word))
			f(int32(at/s.width), int32(at%s.width))
		}
	}
	for _, key := range s.table.Keys {
		f(int32(key>>32), int32(key))
	}
}
