package store

// epoch is one opening of one segment. Row ids remembered in a [mark] are good
// within the epoch that gave them and nowhere else: after a rollback or a change
// of segment the writer begins a new one, and every value is looked up afresh.
type epoch struct{ _ byte } // not empty: distinct epochs need distinct addresses

// mark remembers, inside an interned value, the row it has. It belongs to the
// writer.
type mark struct {
	self  *mark // guards against a copy of the value that holds the mark
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
