package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
	"zombiezen.com/go/sqlite"
)

// Table contacts says who talked to what. It has one row for each distinct combination of the columns that a statement
// uses, with sums over the connections. SQLite tells a virtual table the used columns. So a count by program gives
// SQLite one row per program, where the view has one per connection.
//
// Only the time of connections is judged before they are merged. A statement that uses a connection's time otherwise, or
// compares a sum, is refused: its answer would depend on the other columns that it uses.

// contactView is the table.
type contactView struct {
	nothingHeld
	ctx     context.Context
	tape    *store.Tape
	columns []contactColumn
	refused error // reason for refusing the statement, or a failure: SQLite does not pass it on
}

// refuse stores an error and returns it.
func (v *contactView) refuse(err error) error {
	v.refused = err
	return err
}

// explain returns the stored error, or else err.
func (v *contactView) explain(err error) error {
	if err != nil && v.refused != nil {
		return v.refused
	}
	return err
}

// contactColumn is a column of contacts.
type contactColumn struct {
	segment.ViewColumn
	role contactRole
}

// contactRole is the role of a column of contacts.
type contactRole int

const (
	groups contactRole = iota // a column of connections
	sums                      // over the connections of a row
	times                     // of a connection: hidden, only for conditions
)

// newContactView returns the table over a tape, in the window of its views.
func newContactView(ctx context.Context, tape *store.Tape) *contactView {
	v := &contactView{ctx: ctx, tape: tape}
	for _, c := range segment.ViewColumns("connections") {
		if o, known := originOf(c.Name); known && o != ofRow && o != ofLocal {
			v.columns = append(v.columns, contactColumn{c, groups})
		}
	}
	v.columns = append(v.columns, []contactColumn{
		{segment.ViewColumn{Name: "connects"}, sums}, {segment.ViewColumn{Name: "rows"}, sums},
		{segment.ViewColumn{Name: "first_time"}, sums}, {segment.ViewColumn{Name: "last_time"}, sums},
		{segment.ViewColumn{Name: "time"}, times}, {segment.ViewColumn{Name: "time_ns", Type: "INTEGER"}, times},
	}...)
	return v
}

// AttachContacts makes table contacts readable on a tape's connection until ctx ends, as RunSQL does for a statement.
func AttachContacts(ctx context.Context, tape *store.Tape) error {
	_, err := attachContacts(ctx, tape)
	return err
}

func attachContacts(ctx context.Context, tape *store.Tape) (*contactView, error) {
	v := newContactView(ctx, tape)
	var shown, hidden []segment.ViewColumn
	for _, c := range v.columns {
		if c.role == times {
			hidden = append(hidden, c.ViewColumn)
		} else {
			shown = append(shown, c.ViewColumn)
		}
	}
	return v, tape.TableOf("contacts", shown, hidden, v)
}

// BestIndex accepts comparisons of time, which SQLite does not repeat, and other comparisons that reduce the connections
// to read. The plan is the used columns, as bits, and the comparisons.
func (v *contactView) BestIndex(in *sqlite.IndexInputs) (*sqlite.IndexOutputs, error) {
	out := &sqlite.IndexOutputs{ConstraintUsage: make([]sqlite.IndexConstraintUsage, len(in.Constraints)), EstimatedCost: estimatedRows, EstimatedRows: estimatedRows / 100}
	plan := []string{strconv.FormatUint(in.ColumnsUsed, 16)}
	for i, c := range in.Constraints {
		if c.Op == sqlite.IndexConstraintLimit || c.Op == sqlite.IndexConstraintOffset || c.Column < 0 || c.Column >= len(v.columns) {
			continue
		}
		switch column := v.columns[c.Column]; column.role {
		case sums:
			return nil, v.refuse(usagef("compare it after GROUP BY: HAVING sum(connects) > 10, HAVING max(last_time) > '2026-01-02'",
				"%s of contacts is made of all connections that are alike, and cannot be in WHERE or ON", column.Name))
		case times:
			if !isRange(c.Op) && c.Op != sqlite.IndexConstraintEq && c.Op != sqlite.IndexConstraintIs {
				return nil, v.refuse(timeRefused(column.Name))
			}
			if !c.Usable {
				return nil, sqlite.ResultConstraint.ToError()
			}
			out.ConstraintUsage[i].Omit = true
			out.EstimatedCost, out.EstimatedRows = out.EstimatedCost/3, max(1, out.EstimatedRows/3)
		default:
			by := comparisons[column.Name]
			if !c.Usable || by == nil || c.Collation != "BINARY" || c.Op != sqlite.IndexConstraintEq && !by.takesPattern(c.Op) {
				continue
			}
			out.EstimatedCost, out.EstimatedRows = out.EstimatedCost/10, max(1, out.EstimatedRows/10)
		}
		out.ConstraintUsage[i].ArgvIndex = len(plan)
		plan = append(plan, v.columns[c.Column].Name+" "+strconv.Itoa(int(c.Op)))
	}
	out.ID.String = strings.Join(plan, ",")
	return out, nil
}

// timeRefused is the error of a statement that uses a connection's time.
func timeRefused(column string) error {
	return usagef("compare it by =, <, <=, >, >= or BETWEEN, joined by AND; first_time and last_time can be selected, and connections has each time",
		"%s of contacts is judged before connections are put together, and can be nowhere else", column)
}

// Open opens a cursor.
func (v *contactView) Open() (sqlite.VTableCursor, error) { return &contactViewCursor{view: v}, nil }

// contactViewCursor walks the rows of one reading.
type contactViewCursor struct {
	contactCursor
	view  *contactView
	timed bool // the time of connections is compared
}

// Filter reads the flows of the plan.
func (c *contactViewCursor) Filter(id sqlite.IndexID, args []sqlite.Value) error {
	plan := strings.Split(id.String, ",")
	mask, err := strconv.ParseUint(plan[0], 16, 64)
	if err != nil || len(plan) != len(args)+1 {
		return errors.New("the plan of a virtual table is odd")
	}
	span, by := newTimeSpan(windowOf(c.view.tape)), comparedList(nil)
	*c = contactViewCursor{view: c.view}
	for i, what := range plan[1:] {
		column, number, _ := strings.Cut(what, " ")
		op, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		values, isList := store.InList(args[i])
		if !isList {
			values = args[i : i+1]
		}
		if column == "time" || column == "time_ns" {
			if c.timed = true; isList || !span.narrow(column, sqlite.IndexConstraintOp(op), values[0]) {
				return c.view.refuse(timeRefused(column))
			}
			continue
		}
		if one := (compared{comparisons[column], column, sqlite.IndexConstraintOp(op), values}); one.fits() {
			by = append(by, one)
		}
	}
	t, err := chooseContacts(c.view.ctx, Sources(c.view.tape), span.window(), by.choose)
	if err != nil {
		return c.view.refuse(err)
	}
	t.span = span
	for i, column := range c.view.columns {
		if column.role == groups && mask>>min(i, 63)&1 != 0 {
			t.ask(column.Name)
		}
	}
	c.table = t
	if err := t.fill(); err != nil {
		return c.view.refuse(err)
	}
	return nil
}

// Column returns a cell. The last column is the row's key: its cells, independent of the plan.
func (c *contactViewCursor) Column(i int, _ bool) (sqlite.Value, error) {
	t := c.table
	row := t.rows.at(t.rows.order[c.at])
	if i == len(c.view.columns) {
		if c.timed { // with OR, SQLite would merge rows of several conditions, each with its own sums
			return sqlite.Value{}, c.view.refuse(usagef("ask for each time with a SELECT of its own, joined by UNION ALL", "a time of contacts cannot be part of OR"))
		}
		return sqlite.TextValue(c.key(row)), nil
	}
	column := c.view.columns[i]
	switch {
	case column.role == groups:
		return c.contactCursor.Column(slices.Index(t.view.columns, column.Name), false)
	case column.role == times:
		return sqlite.Value{}, c.view.refuse(timeRefused(column.Name))
	case column.Name == "connects":
		return sqlite.IntegerValue(row.n), nil
	case column.Name == "rows":
		return sqlite.IntegerValue(row.rows), nil
	case column.Name == "first_time":
		return sqlite.TextValue(string(c.first.of(row.firstWall))), nil
	}
	return sqlite.TextValue(string(c.last.of(row.lastWall))), nil
}

// key identifies a row by its cells.
func (c *contactViewCursor) key(row *mergedRow) string {
	t := c.table
	var key []byte
	for _, cells := range [][]sqlite.Value{t.tasks.of(row.task), t.remotes.of(row.remote), t.hows.of(row.how)} {
		for _, cell := range cells {
			text := cell.Text()
			key = fmt.Appendf(key, "%d:%d:%s", cell.Type(), len(text), text)
		}
	}
	return string(key)
}

// timeSpan selects connections by time: ids, which are times on the segments' clocks, and times on the wall clock. Both
// ends are included.
type timeSpan struct {
	from, to         int64 // ids
	fromWall, toWall int64
}

// newTimeSpan returns that of a window.
func newTimeSpan(w Window) *timeSpan {
	s := &timeSpan{math.MinInt64, math.MaxInt64, math.MinInt64, math.MaxInt64}
	if !w.Since.IsZero() {
		s.from = w.Since.UnixNano()
	}
	if !w.Until.IsZero() {
		s.to = w.Until.UnixNano() - 1
	}
	return s
}

// window returns the window of the ids.
func (s *timeSpan) window() Window {
	w := Window{}
	if s.from > math.MinInt64 {
		w.Since = time.Unix(0, s.from)
	}
	if s.to < math.MaxInt64 {
		w.Until = time.Unix(0, s.to+1)
	}
	return w
}

// narrow applies a comparison to the span. It returns false if the value does not have the column's type.
func (s *timeSpan) narrow(column string, op sqlite.IndexConstraintOp, v sqlite.Value) bool {
	least, most := int64(math.MinInt64), int64(math.MaxInt64) // equal to the value
	from, to := &s.from, &s.to
	switch {
	case v.Type() == sqlite.TypeNull:
		s.from, s.to = math.MaxInt64, math.MinInt64
		return true
	case column == "time_ns" && v.Type() == sqlite.TypeInteger:
		least, most = v.Int64(), v.Int64()
	case column == "time" && v.Type() == sqlite.TypeText:
		from, to = &s.fromWall, &s.toWall
		least, most = firstMoment(v.Text()), before(firstMoment(v.Text()+"\x00"))
	default:
		return false
	}
	switch op {
	case sqlite.IndexConstraintGT:
		least, most = after(most), math.MaxInt64
	case sqlite.IndexConstraintGE:
		most = math.MaxInt64
	case sqlite.IndexConstraintLT:
		least, most = math.MinInt64, before(least)
	case sqlite.IndexConstraintLE:
		least = math.MinInt64
	}
	*from, *to = max(*from, least), min(*to, most)
	return true
}

// firstMoment returns the first moment whose text is not less than this.
func firstMoment(text string) int64 {
	if wallString(-1) < text {
		return boundary(text)
	}
	low, high := int64(math.MinInt64), int64(-1) // the answer is at most high
	for low < high {
		middle := low + int64(uint64(high-low)/2)
		if wallString(middle) >= text {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return high
}

// before and after return the adjacent moment, saturated.
func before(ns int64) int64 { return max(ns, math.MinInt64+1) - 1 }
func after(ns int64) int64  { return min(ns, math.MaxInt64-1) + 1 }

// keep returns the flow reduced to the span, nil if nothing is left.
func (s *timeSpan) keep(segment *segmentSource, c *contact) *contact {
	if s == nil || s.fromWall == math.MinInt64 && s.toWall == math.MaxInt64 {
		return c // ids are read within it
	}
	kept := *c
	kept.ids, kept.counts, kept.n = nil, nil, 0
	for i, id := range c.ids {
		if wall := segment.wall(id); wall < s.fromWall || wall > s.toWall {
			continue
		}
		n := int64(1)
		if c.counts != nil {
			n = c.counts[i]
		}
		kept.ids, kept.counts, kept.n = append(kept.ids, id), append(kept.counts, n), kept.n+n
	}
	if len(kept.ids) == 0 {
		return nil
	}
	if kept.n == int64(len(kept.ids)) {
		kept.counts = nil
	}
	return &kept
}

// ids returns the ids of a segment that may be in the span: from (included) and to (excluded).
func (s *timeSpan) ids(segment *segmentSource) (from, to int64) {
	least, most := segment.offsets()
	from, to = max(s.from, minus(s.fromWall, most)), min(s.to, minus(s.toWall, least))
	if s.fromWall == math.MinInt64 {
		from = s.from
	}
	if s.toWall == math.MaxInt64 {
		to = s.to
	}
	return max(from, segment.first), min(to, segment.last) + 1
}
