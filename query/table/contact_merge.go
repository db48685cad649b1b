package table

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/failure"
	"zombiezen.com/go/sqlite"
)

// contactMerger merges the flows of a segment with those of the others.
type contactMerger struct {
	ctx     context.Context
	table   *ContactTable
	segment *SegmentSource
	rows    []contactRow

	task, remote []int32 // dictionary ids by number of the segment
	kinds        idTable
	kind         []int32         // number of the kind of each remote: its family, and whether its port is 0
	requested    map[int64]int64 // of remotes that connects to others were sent to, once they are read
	how          map[howKey]int32
	ids          []int64 // connections of the rows, if traffic is used
	eras         eras
}

// howKey is the key of an outcome: a later segment's final comes before the shape's.
type howKey struct {
	shape, kind int32
	fateKey
}

// fateKey distinguishes the outcomes of one flow's connections.
type fateKey struct {
	final store.Final // from a later segment; FinalUnknown: the shape's
	era   era
}

// contactRow is a flow of a segment.
type contactRow struct {
	task, remote, shape int32
	n, rows             int64
	moments             moments
	fate                fateKey
	slot                slot
	from, to            int // of its connections in ids
	traffic             *Traffic
}

// Placeholders of a dictionary id.
const (
	notRead = -2
	notHere = -1
)

func (m *contactMerger) Begin(s *SegmentSource, _, _ int64) {
	for len(m.task) < len(s.tasks.ids) {
		m.task = append(m.task, notRead)
	}
	for len(m.remote) < len(s.remotes.ids) {
		m.remote, m.kind = append(m.remote, notRead), append(m.kind, 0)
	}
}

func (m *contactMerger) Take(s *SegmentSource, c *Contact) error {
	if c = m.table.span.keep(s, c); c == nil {
		return nil
	}
	if first, last := m.eras.of(c.IDs[0]), m.eras.of(c.IDs[len(c.IDs)-1]); len(m.segment.later) > 0 || first != last {
		m.takeApart(s, c)
	} else {
		m.takeAs(s, c, fateKey{era: first})
	}
	full := len(m.rows) >= s.Tape.Limits.Unmerged
	if m.table.asksTraffic() {
		full = len(m.ids) >= s.Tape.Limits.Moved
	}
	if full {
		return m.End(s)
	}
	return nil
}

// takeAs adds a flow whose connections have one outcome.
func (m *contactMerger) takeAs(s *SegmentSource, c *Contact, fate fateKey) {
	for c, in := range m.table.by.cut(s, c) {
		row := contactRow{task: c.Task, remote: c.Remote, shape: c.Shape, n: c.N, rows: int64(len(c.IDs)), moments: s.moments(c), fate: fate, slot: in}
		if m.table.asksTraffic() {
			row.from = len(m.ids)
			m.ids = append(m.ids, c.IDs...)
			row.to = len(m.ids)
		}
		m.rows = append(m.rows, row)
	}
}

// takeApart adds a flow whose connections have several outcomes, as later segments say.
func (m *contactMerger) takeApart(s *SegmentSource, c *Contact) {
	parts := apart(c, func(id int64) fateKey { return fateKey{m.segment.later[id].Final, m.eras.of(id)} })
	for fate, part := range parts {
		m.takeAs(s, part, fate)
	}
}

// readTraffic reads durations and bytes of the rows' connections.
func (m *contactMerger) readTraffic() error {
	if len(m.ids) == 0 {
		return nil
	}
	owner := make(map[int64]int32, len(m.ids))
	for i := range m.rows {
		for _, id := range m.ids[m.rows[i].from:m.rows[i].to] {
			owner[id] = int32(i)
		}
	}
	add := func(id int64, o *store.StoredOutcome) {
		row := &m.rows[owner[id]]
		if row.traffic == nil {
			row.traffic = &Traffic{}
		}
		row.traffic.add(o)
	}
	err := trafficOf(m.ctx, m.segment, m.ids, func(id int64, o *store.StoredOutcome) {
		if _, ok := m.segment.later[id]; !ok {
			add(id, o)
		}
	})
	for id, later := range m.segment.later {
		if _, ok := owner[id]; ok {
			add(id, &later.StoredOutcome)
		}
	}
	m.ids = m.ids[:0]
	return err
}

// howOf returns the outcome id of a row, notHere if the view has no such row.
func (m *contactMerger) howOf(row *contactRow) (int32, error) {
	key := m.howKey(row)
	how, known := m.how[key]
	if known {
		return how, nil
	}
	t, s := m.table, m.segment
	err := s.use(func(conn *sqlite.Conn) error {
		values, err := s.laterShape(conn, s.shapes.ids[row.shape], s.remotes.ids[row.remote], row.fate.final, t.columns[ofOutcome])
		if err == nil {
			how = t.Hows.number(&t.mu, values)
		}
		return err
	})
	m.how[key] = how
	return how, err
}

func (m *contactMerger) howKey(row *contactRow) howKey {
	return howKey{row.shape, m.kind[row.remote], row.fate}
}

func (m *contactMerger) End(*SegmentSource) error {
	if err := m.readTasks(); err != nil {
		return err
	}
	if err := m.readRemotes(); err != nil {
		return err
	}
	if err := m.readHows(); err != nil {
		return err
	}
	if err := m.readTraffic(); err != nil {
		return err
	}
	t := m.table
	hows := make([]int32, len(m.rows))
	for i := range m.rows {
		hows[i] = notHere
		if row := &m.rows[i]; m.task[row.task] >= 0 && m.remote[row.remote] >= 0 {
			var err error
			if hows[i], err = m.howOf(row); err != nil {
				return err
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range m.rows {
		row := &m.rows[i]
		task, remote := m.task[row.task], m.remote[row.remote]
		how := hows[i]
		if how < 0 {
			continue // not in the view, which joins
		}
		t.Rows.add(mergedRow{task, remote, how, row.slot, int32(m.segment.Index), row.moments.First, row.n, row.rows, row.moments, row.traffic})
	}
	m.rows = m.rows[:0]
	return nil
}

// readTasks assigns dictionary ids to the tasks that occurred.
func (m *contactMerger) readTasks() error {
	var ids []int64
	for i := range m.rows {
		if at := &m.task[m.rows[i].task]; *at == notRead {
			*at = notHere
			ids = append(ids, m.segment.tasks.ids[m.rows[i].task])
		}
	}
	t, s := m.table, m.segment
	return t.view.cells(m.ctx, s, ofTask, ids, connectionLike{}, t.columns[ofTask], func(id int64, cells []format.Value) {
		m.task[s.tasks.of(id)] = t.Tasks.number(&t.mu, cells)
	})
}

// readRemotes does the same for endpoints. They are many and mostly the same in each segment, so each endpoint's cells
// are read once. Endpoints with equal cells share an id.
func (m *contactMerger) readRemotes() error {
	t, s := m.table, m.segment
	var ids []int64
	for i := range m.rows {
		if at := &m.remote[m.rows[i].remote]; *at == notRead {
			*at = notHere
			ids = append(ids, s.remotes.ids[m.rows[i].remote])
		}
	}
	if m.requested == nil && (slices.Contains(t.columns[ofRemote], "requested_address") || slices.Contains(t.columns[ofRemote], "requested_port")) {
		var err error
		if m.requested, err = s.redirected(m.ctx); err != nil {
			return err
		}
	}
	peers := slices.ContainsFunc(t.columns[ofRemote], func(column string) bool { return strings.HasPrefix(column, "peer_") })
	named := slices.Contains(t.columns[ofRemote], "remote_name") || slices.Contains(t.columns[ofRemote], "name_source")
	var fresh []int64
	keys := make(map[int64]string) // of these
	var key []byte
	err := s.endpoints(m.ctx, ids, func(id, family int64, address []byte, port int64) {
		number := s.remotes.of(id)
		if number < 0 || m.remote[number] != notHere {
			return
		}
		key = key[:0]
		switch {
		case len(t.columns[ofRemote]) == 0:
			key = appendPlaceKey(key, family, nil, 0)
		case m.requested[id] != 0, slices.Contains(t.columns[ofRemote], "remote_raw"), peers && family == unix.AF_UNIX, named && family != unix.AF_UNIX: // the rest does not determine it
			key = appendPlaceKey(key, int64(s.Index), nil, id)
		default:
			key = appendPlaceKey(key, family, address, port)
		}
		kind := 2 * family // a name probe has port 0
		if port == 0 {
			kind++
		}
		m.kind[number] = m.kinds.of(kind)
		t.mu.Lock()
		defer t.mu.Unlock()
		if known, ok := t.places[string(key)]; ok {
			m.remote[number] = known
			return
		}
		fresh, keys[id] = append(fresh, id), string(key)
	})
	if err != nil {
		return err
	}
	found := 0
	err = t.view.cells(m.ctx, s, ofRemote, fresh, connectionLike{}, t.columns[ofRemote], func(id int64, cells []format.Value) {
		number := t.Remotes.number(&t.mu, cells)
		m.remote[s.remotes.of(id)] = number
		t.mu.Lock()
		if t.places == nil {
			t.places = make(map[string]int32)
		}
		t.places[keys[id]] = number
		t.mu.Unlock()
		found++
	})
	if err == nil && found != len(fresh) {
		err = fmt.Errorf("read segment %d: %w: %d endpoints are there, and are not found by their ids", s.Number, failure.ErrDamaged, len(fresh)-found)
	}
	return err
}

// readHows reads the outcomes of shapes for kinds of endpoints.
func (m *contactMerger) readHows() error {
	t, s := m.table, m.segment
	shapes, likes := make(map[howKey][]int64), make(map[howKey]connectionLike) // by everything except the shape
	for i := range m.rows {
		row := &m.rows[i]
		key := m.howKey(row)
		if _, known := m.how[key]; known || m.remote[row.remote] < 0 || row.fate.final != store.FinalUnknown {
			continue
		}
		m.how[key] = notHere
		key.shape = 0
		shapes[key] = append(shapes[key], s.shapes.ids[row.shape])
		likes[key] = connectionLike{s.remotes.ids[row.remote], row.moments.First}
	}
	for key, ids := range shapes {
		err := t.view.cells(m.ctx, s, ofOutcome, ids, likes[key], t.columns[ofOutcome], func(id int64, cells []format.Value) {
			key.shape = s.shapes.of(id)
			m.how[key] = t.Hows.number(&t.mu, cells)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
