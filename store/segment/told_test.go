package segment

import (
	"encoding/binary"
	"testing"
)

func numbers(list ...uint64) (b []byte) {
	for _, n := range list {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// The outcome of a row says how it was told, in few bytes, where the one before is a part of it; where it is not, the row is left as it was.
func TestTold(t *testing.T) {
	outcome := numbers(40000<<2|2, 1234568, 3000001, 5001, 70001, 1, 1000)
	for name, c := range map[string]struct {
		told  Told
		bytes int // more; 0: it cannot be
	}{
		"nothing known before":     {Told{Batch: 70}, 2},
		"another shape":            {Told{Batch: 70, Shape: 5}, 3},
		"established before":       {Told{Batch: 300, Before: numbers(40000<<2, 1234568, 0, 0, 0, 0, 1000)}, 5},
		"only the port before":     {Told{Batch: 300, Before: numbers(40000 << 2)}, 5},
		"nothing in it before":     {Told{Batch: 300, Before: numbers(0)}, 5},
		"another port before":      {Told{Batch: 300, Before: numbers(40001 << 2)}, 0},
		"closed before":            {Told{Batch: 300, Before: numbers(40000<<2 | 2)}, 0},
		"another time before":      {Told{Batch: 300, Before: numbers(40000<<2, 1234569)}, 0},
		"one that is never stored": {Told{Batch: 300, Before: numbers(40000<<2, 0)}, 0},
		"no bytes before":          {Told{Batch: 300, Before: []byte{}}, 0},
		"no batch":                 {Told{}, 0},
		"a batch below 0":          {Told{Batch: -1}, 0},
	} {
		b, ok := c.told.Append([]byte("x"), outcome)
		if !ok {
			if c.bytes > 0 || string(b) != "x" {
				t.Errorf("%s: not stored, %q", name, b)
			}
			continue
		}
		if more := len(b) - 1 - len(outcome); more != c.bytes {
			t.Errorf("%s: %d bytes more, want %d", name, more, c.bytes)
		}
		if n, ok := OutcomeOf(b[1:]); !ok || string(AppendNumbers(nil, n[:])) != string(outcome) {
			t.Errorf("%s: the outcome is %d, %v", name, n, ok)
		}
	}
	if _, told, ok := ReadTold(outcome); told != nil || !ok {
		t.Errorf("an outcome that came with its row was told by %+v", told)
	}
}

func FuzzReadTold(f *testing.F) {
	b, _ := (&Told{Batch: 3, Shape: 4, Before: numbers(8)}).Append(nil, numbers(9, 10))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		outcome, told, ok := ReadTold(b)
		if !ok || told == nil {
			return
		}
		again, ok := told.Append(nil, outcome)
		if !ok {
			return // verify reports such a row
		}
		same, back, ok := ReadTold(again)
		if !ok || string(same) != string(outcome) || back.Batch != told.Batch || back.Shape != told.Shape || string(back.Before) != string(told.Before) {
			t.Errorf("%x is %x %+v, then %x %+v", b, outcome, told, same, back)
		}
	})
}
