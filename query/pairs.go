package query

import "math/bits"

// pairTable numbers pairs of small numbers in the order in which they come. It takes
// some 16 bytes a pair, and no pointer.
type pairTable struct {
	slots []pairSlot // as many as a power of two; more than half are free
	keys  []uint64   // in the order of their numbers
}

type pairSlot struct {
	key    uint64
	number int32 // counted from 1, 0: free
}

func pairOf(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

// add returns the number of a pair, and whether it is new.
func (t *pairTable) add(key uint64) (number int32, isNew bool) {
	if 2*len(t.keys) >= len(t.slots) {
		t.grow()
	}
	slot := t.find(key)
	if slot.number != 0 {
		return slot.number - 1, false
	}
	t.keys = append(t.keys, key)
	*slot = pairSlot{key, int32(len(t.keys))}
	return slot.number - 1, true
}

// find returns the slot of a pair, or the free one where it belongs.
func (t *pairTable) find(key uint64) *pairSlot {
	mask := uint64(len(t.slots) - 1)
	// The numbers are our own, and dense: a product spreads them (Fibonacci hashing).
	for at := key * 0x9e3779b97f4a7c15 >> (64 - bits.Len64(mask)); ; at = (at + 1) & mask {
		if slot := &t.slots[at]; slot.number == 0 || slot.key == key {
			return slot
		}
	}
}

func (t *pairTable) grow() {
	t.slots = make([]pairSlot, max(1024, 2*len(t.slots)))
	for i, key := range t.keys {
		*t.find(key) = pairSlot{key, int32(i + 1)}
	}
}
