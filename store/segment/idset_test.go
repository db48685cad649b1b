package segment

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/conntape/conntape/store/posting"
)

func TestIDSet(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	var s IDSet
	for range 50 {
		var want []int64
		for range r.IntN(500) {
			id := 1 + r.Int64N(1<<r.IntN(20))
			s.Add(id)
			want = append(want, id)
		}
		slices.Sort(want)
		want = slices.Compact(want)
		var got []int64
		for id, err := range posting.IDs(s.List()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, id)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		s.Clear()
	}
	for _, odd := range []int64{-1, mostIDs, 1 << 62} { // in a file that was tampered with
		s.Add(5)
		s.Add(odd)
		if s.List() != nil {
			t.Errorf("%d is in a list", odd)
		}
		s.Clear()
	}
}
