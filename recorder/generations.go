package recorder

// generations is a cache of bounded size that never evicts what is in use: when the young generation is full the old
// one is dropped whole, and the young one becomes old. A hit in the old one moves it back. Reading costs a map lookup,
// and nothing is allocated for what is known.
type generations[K comparable, V any] struct {
	young, old map[K]V
	limit      int // entries per generation
}

func newGenerations[K comparable, V any](limit int) *generations[K, V] {
	return &generations[K, V]{young: map[K]V{}, limit: limit}
}

func (g *generations[K, V]) get(k K) (V, bool) {
	v, ok := g.young[k]
	if ok {
		return v, true
	}
	if v, ok = g.old[k]; ok {
		g.put(k, v)
	}
	return v, ok
}

func (g *generations[K, V]) put(k K, v V) {
	if len(g.young) >= g.limit {
		g.old, g.young = g.young, make(map[K]V, g.limit/4)
	}
	g.young[k] = v
}

func (g *generations[K, V]) remove(k K) {
	delete(g.young, k)
	delete(g.old, k)
}

func (g *generations[K, V]) clear() {
	clear(g.young)
	g.old = nil
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
