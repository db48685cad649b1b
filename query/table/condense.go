package table

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/failure"
)

// Some canned queries group connections by properties of task, endpoint and shape, and otherwise need only the first
// time, the last time and the sum of count. Flows give the same answer: they are far fewer, and no row of connection is
// read. So a virtual table replaces the view. It has one row for all flows that agree in the columns used.

// ContactTable is this table. It is filled at its first use.
type ContactTable struct {
	nothingHeld
	ctx     context.Context
	view    *KnownView
	window  input.Window
	span    *timeSpan        // within the window; nil: all of it
	counted bool             // it replaces connections: see counting.go
	Chosen  []*SegmentSource // segments with rows that the question can be about
	used    uint64           // used columns, a bit each
	filled  bool
	failed  error

	mu                   sync.Mutex
	columns              [origins][]string // used columns by origin
	cells                []contactCell     // by column
	Tasks, Remotes, Hows dictionary
	places               map[string]int32 // dictionary ids of remotes, by endpoint key
	Rows                 mergedRows
}

// contactCell is the place of a column.
type contactCell struct {
	origin origin
	place  int // among the cells of the origin
}

// NewContactTable attaches the flows that a question can be about as a table with this name.
func NewContactTable(ctx context.Context, tape *store.Tape, name string, w input.Window, choose Chooser) (*ContactTable, error) {
	t, err := ChooseContacts(ctx, Sources(tape), w, choose)
	if err != nil {
		return nil, err
	}
	return t, tape.Table(name, "connections", t)
}

// ChooseContacts finds the flows that a question can be about.
func ChooseContacts(ctx context.Context, sources []Source, w input.Window, choose Chooser) (*ContactTable, error) {
	t := &ContactTable{ctx: ctx, view: NewKnownView(), window: w}
	segments := inWindow(sources, w)
	err := inParallel(ctx, segments, func(ctx context.Context, _ int, s *SegmentSource) (err error) {
		s.About, err = choose(ctx, s)
		return err
	})
	for _, s := range segments {
		if s.About != nil {
			t.Chosen = append(t.Chosen, s)
		}
	}
	return t, err
}

// Ask marks columns as used.
func (t *ContactTable) Ask(names ...string) {
	for _, name := range names {
		t.used |= 1 << slices.Index(t.view.Columns, name)
	}
}

// asks reports whether one of the columns is used.
func (t *ContactTable) asks(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		i := slices.Index(t.view.Columns, name)
		return i >= 0 && t.used>>i&1 != 0
	})
}

// asksTraffic reports whether durations or bytes are used.
func (t *ContactTable) asksTraffic() bool {
	return t.asks("bytes_sent", "bytes_received", "duration_ns")
}

// asksOutcome reports whether the outcome is used.
func (t *ContactTable) asksOutcome() bool {
	return t.asksTraffic() || t.asks("outcome", "outcome_errno")
}

// Cell returns the cell of a used column.
func (t *ContactTable) Cell(cells []sqlite.Value, name string) sqlite.Value {
	return cells[t.cells[slices.Index(t.view.Columns, name)].place]
}

// BestIndex marks the used columns. The table is always read whole, whatever the condition. It tells the planner that it
// has many rows, so that SQLite does not read it repeatedly.
func (t *ContactTable) BestIndex(in *sqlite.IndexInputs) (*sqlite.IndexOutputs, error) {
	t.used |= in.ColumnsUsed
	return &sqlite.IndexOutputs{ConstraintUsage: make([]sqlite.IndexConstraintUsage, len(in.Constraints)), EstimatedCost: estimatedRows, EstimatedRows: estimatedRows}, nil
}

// Open opens a cursor.
func (t *ContactTable) Open() (sqlite.VTableCursor, error) { return &contactCursor{table: t}, nil }

// Fill reads the contacts.
func (t *ContactTable) Fill() error {
	if t.filled {
		return t.failed
	}
	t.filled = true
	t.cells = make([]contactCell, len(t.view.Columns))
	for i, name := range t.view.Columns {
		if t.used>>i&1 == 0 {
			continue
		}
		o, _ := originOf(name)
		if o == ofShape || o == ofOutcome || o == ofSegment {
			o = ofOutcome // a how has all of them
		}
		t.cells[i] = contactCell{o, len(t.columns[o])}
		t.columns[o] = append(t.columns[o], name)
	}
	t.failed = t.read()
	t.Rows.sort(t.counted)
	return t.failed
}

// read reads the contacts of all segments.
func (t *ContactTable) read() error {
	from, to := t.window.Bounds()
	if t.asksOutcome() {
		if err := readLater(t.ctx, t.Chosen); err != nil {
			return err
		}
	}
	return inParallel(t.ctx, t.Chosen, func(ctx context.Context, _ int, s *SegmentSource) error {
		if err := s.describe(ctx); err != nil {
			return err
		}
		m := &contactMerger{ctx: ctx, table: t, segment: s, how: make(map[howKey]int32), families: idTable{numbers: make(map[int64]int32)}}
		if t.asksOutcome() {
			m.eras = erasOf(s.Tape.Recording(s.Index))
			if err := s.widen(ctx); err != nil {
				return err
			}
		}
		from, to := max(from, s.First), min(to, s.Last+1)
		if t.span != nil {
			from, to = t.span.ids(s)
		}
		if t.counted && s.isOddTime() {
			return rowsBecause("segment %d has times that are no times of a clock", s.Number)
		}
		if t.isTotal(s) {
			return t.total(ctx, s, from, to)
		}
		return s.chosen(ctx, s.About, from, to, m)
	})
}

// Explain returns the error that kept the table from being filled, or else err.
func (t *ContactTable) Explain(err error) error {
	if err != nil && t.failed != nil {
		return t.failed
	}
	return err
}

// contactMerger merges the flows of a segment with those of the others.
type contactMerger struct {
	ctx     context.Context
	table   *ContactTable
	segment *SegmentSource
	rows    []contactRow

	task, remote []int32 // dictionary ids by number of the segment
	families     idTable
	family       []int32         // number of the family of each remote
	requested    map[int64]int64 // of remotes that connects to others were sent to, once they are read
	how          map[howKey]int32
	ids          []int64 // connections of the rows, if traffic is used
	eras         eras
}

// howKey is the key of an outcome: a later segment's final comes before the shape's.
type howKey struct {
	shape, family int32
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
	from, to            int // of its connections in ids
	traffic             *Traffic
}

// mostUnmerged limits the flows of a segment held before merging.
const mostUnmerged = 1 << 16

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
		m.remote, m.family = append(m.remote, notRead), append(m.family, 0)
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
	if len(m.rows) >= mostUnmerged || len(m.ids) >= mostUnmerged {
		return m.End(s)
	}
	return nil
}

// takeAs adds a flow whose connections have one outcome.
func (m *contactMerger) takeAs(s *SegmentSource, c *Contact, fate fateKey) {
	row := contactRow{task: c.Task, remote: c.Remote, shape: c.Shape, n: c.N, rows: int64(len(c.IDs)), moments: s.moments(c), fate: fate}
	if m.table.asksTraffic() {
		row.from = len(m.ids)
		m.ids = append(m.ids, c.IDs...)
		row.to = len(m.ids)
	}
	m.rows = append(m.rows, row)
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
	return howKey{row.shape, m.family[row.remote], row.fate}
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
		t.Rows.add(mergedRow{task, remote, how, int32(m.segment.Index), row.moments.First, row.n, row.rows, row.moments, row.traffic})
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
		case m.requested[id] != 0, slices.Contains(t.columns[ofRemote], "remote_raw"): // the rest does not determine it
			key = appendPlaceKey(key, int64(s.Index), nil, id)
		default:
			key = appendPlaceKey(key, family, address, port)
		}
		m.family[number] = m.families.of(family)
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

// readHows reads the outcomes of shapes and families.
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

// contactCursor iterates over the rows.
type contactCursor struct {
	table       *ContactTable
	at          int
	first, last timeText
}

// Filter restarts.
func (c *contactCursor) Filter(sqlite.IndexID, []sqlite.Value) error {
	c.at = 0
	return c.table.Fill()
}

// Next goes to the next row.
func (c *contactCursor) Next() error { c.at++; return nil }

// EOF reports whether the rows have ended.
func (c *contactCursor) EOF() bool { return c.at >= len(c.table.Rows.Order) }

// RowID returns the number of the row.
func (c *contactCursor) RowID() (int64, error) { return int64(c.at), nil }

// Close has nothing to release.
func (c *contactCursor) Close() error { return nil }

// Column returns a cell.
func (c *contactCursor) Column(i int, _ bool) (sqlite.Value, error) {
	t := c.table
	if i == len(t.view.Columns) {
		return sqlite.IntegerValue(int64(c.at)), nil // the key
	}
	row, cell := t.Rows.At(t.Rows.Order[c.at]), t.cells[i]
	if t.used>>i&1 == 0 {
		return sqlite.Value{}, fmt.Errorf("column %s was not asked for", t.view.Columns[i])
	}
	switch cell.origin {
	case ofTask:
		return t.Tasks.Cells[row.Task][cell.place], nil
	case ofRemote:
		return t.Remotes.Cells[row.Remote][cell.place], nil
	case ofOutcome:
		return t.Hows.Cells[row.How][cell.place], nil
	}
	switch t.view.Columns[i] {
	case "id", "time_ns":
		return sqlite.IntegerValue(row.First), nil
	case "time":
		return sqlite.TextValue(string(c.first.of(row.FirstWall))), nil
	case "last_time":
		return sqlite.TextValue(string(c.last.of(row.lastWall))), nil
	case "count":
		return sqlite.IntegerValue(row.N), nil
	}
	if row.Traffic == nil {
		return sqlite.Value{}, nil
	}
	switch t.view.Columns[i] {
	case "bytes_sent":
		return forSQLite(row.Traffic.Sent.Cell()), nil
	case "bytes_received":
		return forSQLite(row.Traffic.Received.Cell()), nil
	case "duration_ns":
		return forSQLite(row.Traffic.Duration.Cell()), nil
	}
	return sqlite.Value{}, nil // a column of single connections
}
