package table

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/input"
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
	by      slots            // by which its rows are cut
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
func NewContactTable(ctx context.Context, tape *Tape, name string, w input.Window, choose Chooser) (*ContactTable, error) {
	t, err := ChooseContacts(ctx, tape.Sources(), w, choose)
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

// lastBit of the columns that are used stands for its own and for all after it, as SQLite has it.
const lastBit = 63

// Ask marks columns as used.
func (t *ContactTable) Ask(names ...string) {
	for _, name := range names {
		t.used |= 1 << min(slices.Index(t.view.Columns, name), lastBit)
	}
}

// asks reports whether one of the columns is used.
func (t *ContactTable) asks(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		i := slices.Index(t.view.Columns, name)
		return i >= 0 && t.used>>min(i, lastBit)&1 != 0
	})
}

// asksTraffic reports whether durations or bytes are used.
func (t *ContactTable) asksTraffic() bool {
	return t.asks("bytes_sent", "bytes_received", "duration_ns")
}

// asksOutcome reports whether the outcome is used.
func (t *ContactTable) asksOutcome() bool {
	return t.asksTraffic() || t.asks("outcome", "outcome_errno", "failed")
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
		if t.used>>min(i, lastBit)&1 == 0 {
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
		m := &contactMerger{ctx: ctx, table: t, segment: s, how: make(map[howKey]int32), kinds: idTable{numbers: make(map[int64]int32)}}
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
	if t.used>>min(i, lastBit)&1 == 0 {
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
	return row.Traffic.value(t.view.Columns[i]), nil
}
