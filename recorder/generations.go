package recorder

// generations is a cache of bounded size that never evicts what is in use: when the young generation is full the old
// one is dropped whole, and the young one becomes old. A hit in the old one moves it back. Reading costs a map lookup,
// or a comparison where it is the same as last time, and nothing is allocated for what is known.
type generations[K comparable, V any] struct {
	young, old map[K]V
	weigh      func(K, V) int // in the unit of limit; nil: each is 1
	weight     int            // of the young generation
	limit      int            // of a generation
	last       entry[K, V]    // found last, in the young generation
}

type entry[K comparable, V any] struct {
	key   K
	value V
	ok    bool // false: there is none
}

func newGenerations[K comparable, V any](limit int) *generations[K, V] {
	return &generations[K, V]{young: map[K]V{}, limit: limit}
}

// newWeighed bounds a generation by the weight of what it holds.
func newWeighed[K comparable, V any](limit int, weigh func(K, V) int) *generations[K, V] {
	return &generations[K, V]{young: map[K]V{}, limit: limit, weigh: weigh}
}

func (g *generations[K, V]) get(k K) (V, bool) {
	if g.last.ok && g.last.key == k {
		return g.last.value, true
	}
	v, ok := g.young[k]
	if !ok {
		if v, ok = g.old[k]; !ok {
			return v, false
		}
		g.put(k, v)
	}
	g.last = entry[K, V]{k, v, true}
	return v, true
}

func (g *generations[K, V]) put(k K, v V) {
	g.last.ok = false
	if g.weight >= g.limit {
		g.old, g.young, g.weight = g.young, make(map[K]V, len(g.young)/4), 0
	}
	before := len(g.young)
	g.young[k] = v
	switch {
	case len(g.young) == before: // instead of another
	case g.weigh == nil:
		g.weight++
	default:
		g.weight += g.weigh(k, v)
	}
}

func (g *generations[K, V]) remove(k K) {
	g.last.ok = false
	delete(g.young, k)
	delete(g.old, k)
	if g.weigh == nil {
		g.weight = len(g.young)
	}
}

func (g *generations[K, V]) clear() {
	clear(g.young)
	g.old, g.weight, g.last = nil, 0, entry[K, V]{}
}

// getBytes is get for a key that is at hand as bytes: it makes no string of it.
func getBytes[V any](g *generations[string, V], k []byte) (V, bool) {
	v, ok := g.young[string(k)]
	if ok {
		return v, true
	}
	if v, ok = g.old[string(k)]; ok {
		g.put(string(k), v)
	}
	return v, ok
}
