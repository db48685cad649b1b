package table

import (
	"fmt"
	"testing"

	"github.com/conntape/conntape/test/testtape"
)

// A segment that is not sealed is passed over block by block where it does not have what is asked for, and rows that came
// late, whose blocks do not tell of them, are found all the same.
func TestBlocksArePassedOver(t *testing.T) {
	tape, addresses, seen := testtape.OfBlocks(t)
	left := 0
	for _, address := range addresses {
		s := &SegmentSource{Source: Of(tape).Sources()[0]}
		if err := s.describe(t.Context()); err != nil {
			t.Fatal(err)
		}
		sel, err := ChooseIndicator(address)(t.Context(), s)
		if err != nil || sel == nil {
			t.Fatalf("%s: %v, %v", address, sel, err)
		}
		for _, id := range sel.Remotes {
			s.remotes.add(id)
		}
		spans, err := s.spans(t.Context(), sel, s.First, s.Last+1)
		if err != nil {
			t.Fatal(err)
		}
		read := int64(0)
		for _, span := range spans {
			read += span.To - span.From
		}
		if read < (s.Last+1-s.First)*2/3 {
			left++
		}
		t.Logf("%s, %d times: %d parts, %d%% of the time", address, seen[address], len(spans), 100*read/(s.Last+1-s.First))
	}
	if left < 2 {
		t.Errorf("for %d of %d addresses a third was passed over", left, len(addresses))
	}
}

// Parts of spans are the spans, in order, and about as long as each other.
func TestSplit(t *testing.T) {
	const lowest, highest = -1 << 63, 1<<63 - 1
	for _, c := range []struct {
		spans []IDSpan
		parts int
		want  string
	}{
		{nil, 2, "[]"},
		{[]IDSpan{{5, 6}}, 2, "[[{5 6}]]"},
		{[]IDSpan{{0, 10}}, 1, "[[{0 10}]]"},
		{[]IDSpan{{0, 10}}, 2, "[[{0 5}] [{5 10}]]"},
		{[]IDSpan{{0, 10}, {20, 24}}, 3, "[[{0 4}] [{4 9}] [{9 10} {20 24}]]"},
		{[]IDSpan{{0, 1}, {2, 3}, {4, 5}, {6, 7}}, 2, "[[{0 1} {2 3}] [{4 5} {6 7}]]"},
		{[]IDSpan{{lowest, highest}}, 2, "[[{-9223372036854775808 -1}] [{-1 9223372036854775807}]]"},
	} {
		if got := fmt.Sprint(split(c.spans, c.parts)); got != c.want {
			t.Errorf("%v in %d: %s, want %s", c.spans, c.parts, got, c.want)
		}
	}
}
