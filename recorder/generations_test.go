package recorder

import "testing"

// What was found last is answered without a look into the maps: it must be what they hold.
func TestGenerationsAnswerWhatTheyHold(t *testing.T) {
	g := newGenerations[string, int](2)
	want := func(k string, v int, ok bool) {
		t.Helper()
		for range 2 { // from the maps, and what was found last
			if got, found := g.get(k); got != v || found != ok {
				t.Errorf("%s: %d, %v, want %d, %v", k, got, found, v, ok)
			}
		}
	}
	g.put("a", 1)
	want("a", 1, true)
	g.put("a", 2)
	want("a", 2, true)
	g.remove("a")
	want("a", 0, false)
	g.put("a", 3)
	want("a", 3, true)
	g.clear()
	want("a", 0, false)
}
