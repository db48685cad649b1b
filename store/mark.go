package store

// epoch is one opening of one segment. Ids in a [mark] are valid only within their epoch: after a rollback or a change
// of segment the writer begins a new one and looks up every value again.
type epoch struct{ _ byte } // not empty: distinct epochs need distinct addresses

// mark is the row id inside an interned value. Only the writer uses it.
type mark struct {
	self  *mark // detects a copied value
	epoch *epoch
	id    int64
}

// get returns the row id in epoch e.
func (m *mark) get(e *epoch) (int64, bool) {
	if m.epoch == e && m.self == m {
		return m.id, true
	}
	return 0, false
}

// set remembers the row id for epoch e.
func (m *mark) set(e *epoch, id int64) { m.self, m.epoch, m.id = m, e, id }
