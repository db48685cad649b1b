package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
	"zombiezen.com/go/sqlite"
)

// SQL over connections runs on a virtual table that uses the structure of segments. SQLite passes the comparisons to it.
// So it finds connections of an address, port or program by the postings of sealed segments, and reads few others.
// SQLite checks the comparisons again: the table may return too many rows, never too few. Its cells are those of the
// segments' views (see stream.go).

// virtualTable is the connections of a tape in the window of its views.
type virtualTable struct {
	nothingHeld
	ctx     context.Context
	tape    *Tape
	columns []string
	repeats int64 // rows that stand for several connects; -1: not known yet
}

// AskVirtual attaches the table as connections during a question; it reads until ctx ends.
func AskVirtual(ctx context.Context, tape *Tape, question func() (ask.Result, error)) (ask.Result, error) {
	t := &virtualTable{ctx: ctx, tape: tape, columns: NewKnownView().Columns, repeats: -1}
	if err := tape.Table("connections", "connections", t); err != nil {
		return ask.Result{}, err
	}
	defer func() { t.ctx = context.Background() }()
	return question()
}

// Estimates for the planner: number of connections, fraction left by an equality, and cost of finding these. Repeated
// look-ups for each row of another table cost more than reading everything once.
const (
	estimatedRows  = 10_000_000
	estimatedFound = 1000
	estimatedCost  = 100_000
)

// BestIndex accepts every comparison that it can use.
func (t *virtualTable) BestIndex(in *sqlite.IndexInputs) (*sqlite.IndexOutputs, error) {
	out := &sqlite.IndexOutputs{ConstraintUsage: make([]sqlite.IndexConstraintUsage, len(in.Constraints)), EstimatedCost: estimatedRows, EstimatedRows: estimatedRows}
	order := t.orderOf(in.OrderBy)
	out.OrderByConsumed = order != bySegment
	plan := []string{strconv.FormatUint(in.ColumnsUsed, 16) + " " + strconv.Itoa(int(order))}
	for i, c := range in.Constraints {
		if !c.Usable || c.Column < 0 || c.Column >= len(t.columns) || c.Collation != "BINARY" {
			continue
		}
		by := comparisons[t.columns[c.Column]]
		switch {
		case by == nil, c.Op != sqlite.IndexConstraintEq && !(by.ordered && isRange(c.Op)) && !by.takesPattern(c.Op):
			continue
		case by.ordered:
			out.EstimatedCost /= 3
			out.EstimatedRows = max(1, out.EstimatedRows/3)
		case by.table != "s":
			out.EstimatedCost, out.EstimatedRows = min(out.EstimatedCost, estimatedCost), min(out.EstimatedRows, estimatedFound)
		default:
			out.EstimatedRows = max(1, out.EstimatedRows/3)
		}
		out.ConstraintUsage[i] = sqlite.IndexConstraintUsage{ArgvIndex: len(plan)}
		plan = append(plan, t.columns[c.Column]+" "+strconv.Itoa(int(c.Op)))
	}
	out.ID.String = strings.Join(plan, ",")
	return out, nil
}

// orderOf returns the requested order, if it is by time, or by falling count.
func (t *virtualTable) orderOf(terms []sqlite.IndexOrderBy) timeOrder {
	switch {
	case len(terms) != 1 || terms[0].Column < 0 || terms[0].Column >= len(t.columns):
		return bySegment
	case t.columns[terms[0].Column] == "count" && terms[0].Desc:
		if t.repeatsAreFew() {
			return byCount
		}
		return bySegment
	case t.columns[terms[0].Column] != "id" && t.columns[terms[0].Column] != "time_ns":
		return bySegment
	case terms[0].Desc:
		return newestFirst
	}
	return OldestFirst
}

func isRange(op sqlite.IndexConstraintOp) bool {
	return op == sqlite.IndexConstraintGT || op == sqlite.IndexConstraintGE || op == sqlite.IndexConstraintLT || op == sqlite.IndexConstraintLE
}

// Open opens a cursor.
func (t *virtualTable) Open() (sqlite.VTableCursor, error) { return &virtualCursor{table: t}, nil }

// virtualCursor iterates over connections.
type virtualCursor struct {
	table    *virtualTable
	compared comparedList
	order    timeOrder
	segments rowSource
	begun    *StreamSegment // with the current row; nil: at the end

	cells []virtualCell // by column of the table
}

// virtualCell is the place of a column in a segment's row.
type virtualCell struct {
	used   bool
	origin origin
	place  int // among the origin's columns
	column int // of the stream
}

// Filter restarts with the plan's comparisons.
func (c *virtualCursor) Filter(id sqlite.IndexID, args []sqlite.Value) error {
	c.Close()
	plan := strings.Split(id.String, ",")
	bits, order, _ := strings.Cut(plan[0], " ")
	mask, err := strconv.ParseUint(bits, 16, 64)
	number, orderErr := strconv.Atoi(order)
	if err != nil || orderErr != nil || len(plan) != len(args)+1 {
		return errors.New("the plan of a virtual table is odd")
	}
	c.order, c.compared = timeOrder(number), c.compared[:0]
	for i, what := range plan[1:] {
		column, op, _ := strings.Cut(what, " ")
		number, err := strconv.Atoi(op)
		if err != nil {
			return err
		}
		values, isList := store.InList(args[i])
		if !isList {
			values = []sqlite.Value{args[i]}
		}
		if by := (compared{comparisons[column], column, sqlite.IndexConstraintOp(number), values}); by.fits(c.table.tape.Limits.Values) {
			c.compared = append(c.compared, by)
		}
	}
	var columns []string
	c.cells = make([]virtualCell, len(c.table.columns))
	var places [origins]int
	for i, name := range c.table.columns {
		if mask>>min(i, 63)&1 != 0 {
			o, _ := originOf(name)
			c.cells[i] = virtualCell{true, o, places[o], len(columns)}
			places[o]++
			columns = append(columns, name)
		}
	}
	if c.order == byCount {
		c.segments, err = mostFirst(c.table.ctx, func() *stream { return c.stream(columns, bySegment) })
	} else {
		c.segments = &merger{left: c.stream(columns, c.order).Segments}
	}
	if err != nil {
		return err
	}
	return c.Next()
}

// stream returns the stream of the rows that may match.
func (c *virtualCursor) stream(columns []string, order timeOrder) *stream {
	s := NewStream(c.table.tape, columns, order) // of columns that are known, each once
	for _, segment := range s.Segments {
		segment.prepare = c.narrow
	}
	return s
}

// Next goes to the next connection.
func (c *virtualCursor) Next() (err error) {
	if c.table.ctx.Err() != nil {
		return context.Cause(c.table.ctx)
	}
	c.begun, err = c.segments.next(c.order)
	return err
}

// EOF reports whether there is no connection any more.
func (c *virtualCursor) EOF() bool { return c.begun == nil }

// RowID is never called: the table has none.
func (c *virtualCursor) RowID() (int64, error) { return 0, errors.New("the table has no rowid") }

// Close releases the segments.
func (c *virtualCursor) Close() error {
	if c.segments != nil {
		c.segments.close()
	}
	c.begun, c.segments = nil, nil
	return nil
}

// Column returns a cell; the last column is the row's key.
func (c *virtualCursor) Column(i int, _ bool) (sqlite.Value, error) {
	row := &c.begun.row
	if i == len(c.cells) {
		return sqlite.TextValue(fmt.Sprintf("%d/%d", c.begun.Source.Index, row.id)), nil // the key
	}
	cell := c.cells[i]
	switch {
	case !cell.used:
		return sqlite.Value{}, fmt.Errorf("column %s was not asked for", c.table.columns[i])
	case row.whole != nil:
		return forSQLite(row.whole[cell.column]), nil
	case cell.origin != ofRow:
		return row.from[cell.origin].forSQLite(cell.place), nil
	}
	switch name := c.table.columns[i]; name {
	case "time":
		return sqlite.TextValue(string(c.begun.wallText.of(row.wall))), nil
	case "last_time":
		return sqlite.TextValue(string(c.begun.wallText.of(row.lastWall))), nil
	default:
		return forSQLite(row.own(name)), nil
	}
}

// forSQLite returns the value as a virtual table gives it.
func forSQLite(v format.Value) sqlite.Value {
	switch v.Kind {
	case format.Integer:
		return sqlite.IntegerValue(v.Int)
	case format.Real:
		return sqlite.FloatValue(v.Real)
	case format.Text:
		return sqlite.TextValue(string(v.Bytes))
	case format.Blob:
		return sqlite.BlobValue(v.Bytes)
	}
	return sqlite.Value{}
}

// ValueOf is the reverse of forSQLite.
func ValueOf(v sqlite.Value) format.Value {
	switch v.Type() {
	case sqlite.TypeInteger:
		return format.IntValue(v.Int64())
	case sqlite.TypeFloat:
		return format.Value{Kind: format.Real, Real: v.Float()}
	case sqlite.TypeText:
		return format.TextValue(v.Text())
	case sqlite.TypeBlob:
		return format.Value{Kind: format.Blob, Bytes: v.Blob()}
	}
	return format.Value{}
}

// forSQLite returns a kept value.
func (k *kept) forSQLite(place int) sqlite.Value {
	if k.given == nil {
		for _, v := range k.values {
			k.given = append(k.given, forSQLite(v))
		}
	}
	return k.given[place]
}

// narrow restricts reading a segment to rows that may match, and reports whether there are any.
func (c *virtualCursor) narrow(to *StreamSegment) (some bool, err error) {
	ctx := c.table.ctx
	s := &SegmentSource{Source: to.Source}
	if err := s.describe(ctx); err != nil {
		return false, err
	}
	from, until := max(to.from, s.First), min(to.to, s.Last+1)
	for i := range c.compared {
		low, high := c.compared[i].span(s)
		from, until = max(from, low), min(until, high)
	}
	if from >= until {
		return false, nil
	}
	to.from, to.to = from, until
	sel, err := c.compared.choose(ctx, s)
	if err != nil || sel == nil {
		return false, err
	}
	if len(to.later) > 0 && c.comparesOutcome() {
		sel.shapes = "" // a later segment may have another outcome
	}
	if sel.Remotes == nil && sel.tasks == nil && sel.shapes == "" {
		return true, nil
	}
	found := &idLister{most: s.Tape.Limits.Found}
	err = s.chosen(ctx, sel, from, until, found)
	switch {
	case errors.Is(err, ErrTooMuch):
		to.wanted = func(task, remote, shape int64) bool {
			return s.tasks.of(task) >= 0 && s.remotes.of(remote) >= 0 && s.shapes.of(shape) >= 0
		}
		return true, nil
	case err != nil:
		return false, err
	}
	slices.Sort(found.ids)
	if c.order == newestFirst {
		slices.Reverse(found.ids)
	}
	to.ids = found.ids
	return len(found.ids) > 0, nil
}

// comparesOutcome reports whether the outcome is compared.
func (c *virtualCursor) comparesOutcome() bool {
	return slices.ContainsFunc(c.compared, func(by compared) bool { return by.column == "outcome" })
}

// idLister lists ids of connections, up to most.
type idLister struct {
	ids  []int64
	most int
}

func (l *idLister) Begin(*SegmentSource, int64, int64) {}

func (l *idLister) End(*SegmentSource) error { return nil }

func (l *idLister) Take(_ *SegmentSource, c *Contact) error {
	if len(l.ids)+len(c.IDs) > l.most {
		return ErrTooMuch
	}
	l.ids = append(l.ids, c.IDs...)
	return nil
}

// ErrTooMuch says that the flows do not fit in a plan's memory.
var ErrTooMuch = errors.New("too much to read in one pass")
