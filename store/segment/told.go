package segment

import (
	"encoding/binary"
	"math"
)

// OutcomeNumbers is how many numbers an outcome is stored as, at the most. docs/format.md says what each is.
const OutcomeNumbers = 8

// toldNumbers is how many follow them in the row of a connection that was told its outcome later: see [Told].
const toldNumbers = 3

// closedByBits are the bits of an outcome's first number that say who closed.
const closedByBits = 3

// Told is what a row of ending said, once sealing has moved its outcome into the row of its connection.
type Told struct {
	Batch  int64  // that told it
	Shape  int64  // of the connection before, 0 the same
	Before []byte // its outcome before, nil none
}

// Append returns an outcome as it is stored in the row of its connection. It reports false for one that [ReadTold] would read otherwise:
// the outcome before must be a part of this one.
func (t *Told) Append(b, outcome []byte) ([]byte, bool) {
	now, ok := readNumbers(outcome)
	if !ok {
		return b, false
	}
	now[OutcomeNumbers], now[OutcomeNumbers+1] = uint64(t.Batch), uint64(t.Shape)
	if t.Before != nil {
		before, _ := readNumbers(t.Before)
		parts := uint64(0)
		for i, n := range before[:OutcomeNumbers] {
			if n != 0 {
				parts |= 1 << i
			}
		}
		now[OutcomeNumbers+2] = parts + 1
	}
	begin := len(b)
	b = AppendNumbers(b, now[:])
	back, told, ok := ReadTold(b[begin:])
	if !ok || told == nil || string(back) != string(outcome) || told.Batch != t.Batch || told.Shape != t.Shape ||
		(told.Before == nil) != (t.Before == nil) || string(told.Before) != string(t.Before) {
		return b[:begin], false
	}
	return b, true
}

// ReadTold takes the outcome of a connection's row apart: the outcome itself, and how it was told, nil if with the row. It reports false for
// one that is never written.
func ReadTold(b []byte) (outcome []byte, told *Told, ok bool) {
	now, ok := readNumbers(b)
	if !ok {
		return nil, nil, false
	}
	parts := now[OutcomeNumbers+2]
	if now[OutcomeNumbers] == 0 {
		return b, nil, now[OutcomeNumbers+1] == 0 && parts == 0 && len(b) > 0
	}
	told = &Told{Batch: int64(now[OutcomeNumbers]), Shape: int64(now[OutcomeNumbers+1])}
	if parts > 1<<OutcomeNumbers {
		return nil, nil, false
	}
	if parts > 0 {
		before := now
		before[0] &^= closedByBits
		for i := range OutcomeNumbers {
			if (parts-1)>>i&1 == 0 {
				before[i] = 0
			}
		}
		told.Before = AppendNumbers(nil, before[:OutcomeNumbers])
	}
	return AppendNumbers(nil, now[:OutcomeNumbers]), told, true
}

// OutcomeOf returns the numbers of an outcome as it is stored, without those of [Told].
func OutcomeOf(b []byte) ([OutcomeNumbers]uint64, bool) {
	n, ok := readNumbers(b)
	return [OutcomeNumbers]uint64(n[:]), ok
}

// readNumbers reads unsigned varints; those that are missing are 0.
func readNumbers(b []byte) (n [OutcomeNumbers + toldNumbers]uint64, ok bool) {
	for i := 0; i < len(n) && len(b) > 0; i++ {
		v, size := binary.Uvarint(b)
		if size <= 0 || v > math.MaxInt64 {
			return n, false
		}
		n[i], b = v, b[size:]
	}
	return n, len(b) == 0
}

// AppendNumbers appends unsigned varints, without those at the end that are 0; one at least.
func AppendNumbers(b []byte, numbers []uint64) []byte {
	last := len(numbers)
	for last > 1 && numbers[last-1] == 0 {
		last--
	}
	for _, n := range numbers[:last] {
		b = binary.AppendUvarint(b, n)
	}
	return b
}
