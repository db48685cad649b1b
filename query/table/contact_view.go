package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/input"
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
	tape    *Tape
	columns []contactColumn
	counted bool  // it replaces connections: see counting.go
	by      slots // by which its rows are cut
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

// AttachContacts makes table contacts readable on a tape's connection until ctx ends, as RunSQL does for a statement.
func AttachContacts(ctx context.Context, tape *store.Tape) error {
	_, err := attachContacts(ctx, Of(tape))
	return err
}

func attachContacts(ctx context.Context, tape *Tape) (*contactView, error) {
	v := &contactView{ctx: ctx, tape: tape, columns: contactColumns(false)}
	return v, v.attach("contacts")
}

// attach makes it readable under a name.
func (v *contactView) attach(name string) error {
	var shown, hidden []segment.ViewColumn
	for _, c := range v.columns {
		if c.role == times {
			hidden = append(hidden, c.ViewColumn)
		} else {
			shown = append(shown, c.ViewColumn)
		}
	}
	return v.tape.TableOf(name, shown, hidden, v)
}

// BestIndex accepts comparisons of time, which SQLite does not repeat, and other comparisons that reduce the connections
// to read. The plan is the used columns, as bits, and the comparisons.
func (v *contactView) BestIndex(in *sqlite.IndexInputs) (*sqlite.IndexOutputs, error) {
	out := &sqlite.IndexOutputs{ConstraintUsage: make([]sqlite.IndexConstraintUsage, len(in.Constraints)), EstimatedCost: estimatedRows, EstimatedRows: estimatedRows / 100}
	plan := []string{strconv.FormatUint(in.ColumnsUsed, 16)}
	timed := false
	for i, c := range in.Constraints {
		if c.Op == sqlite.IndexConstraintLimit || c.Op == sqlite.IndexConstraintOffset || c.Column < 0 || c.Column >= len(v.columns) {
			continue
		}
		switch column := v.columns[c.Column]; column.role {
		case sums:
			return nil, v.refuse(input.Usagef("compare it after GROUP BY: HAVING sum(connects) > 10, HAVING max(last_time) > '2026-01-02'",
				"%s of contacts is made of all connections that are alike, and cannot be in WHERE or ON", column.Name))
		case times:
			if !isRange(c.Op) && c.Op != sqlite.IndexConstraintEq && c.Op != sqlite.IndexConstraintIs {
				return nil, v.refuse(timeRefused(column.Name))
			}
			if !c.Usable {
				return nil, sqlite.ResultConstraint.ToError()
			}
			out.ConstraintUsage[i].Omit, timed = true, true
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
	if timed {
		// Whatever else is compared, so that the sides of an OR cost more each on their own than all connections of that time
		// do: SQLite would read both sides, and compare the time of their rows once more, which contacts no longer have.
		out.EstimatedCost, out.EstimatedRows = estimatedRows/3, estimatedRows/300
	}
	out.ID.String = strings.Join(plan, ",")
	return out, nil
}

// timeRefused is the error of a statement that uses a connection's time.
func timeRefused(column string) error {
	return input.Usagef("compare it by =, <, <=, >, >= or BETWEEN, joined by AND; first_time and last_time can be selected, and connections has each time",
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
		if one := (compared{comparisons[column], column, sqlite.IndexConstraintOp(op), values}); one.fits(c.view.tape.Limits.Values) {
			by = append(by, one)
		}
	}
	t, err := ChooseContacts(c.view.ctx, c.view.tape.Sources(), span.window(), by.choose)
	if err != nil {
		return c.view.refuse(err)
	}
	t.span, t.counted, t.by = span, c.view.counted, c.view.by
	for i, column := range c.view.columns {
		if (column.role == groups || slices.Contains(trafficSums, column.Name)) && mask>>min(i, 63)&1 != 0 {
			t.Ask(column.Name)
		}
	}
	c.table = t
	if err := t.Fill(); err != nil {
		return c.view.refuse(err)
	}
	return nil
}

// Column returns a cell. The last column is the row's key: its cells, independent of the plan.
func (c *contactViewCursor) Column(i int, _ bool) (sqlite.Value, error) {
	t := c.table
	row := t.Rows.At(t.Rows.Order[c.at])
	if i == len(c.view.columns) {
		if c.timed { // with OR, SQLite would merge rows of several conditions, each with its own sums
			return sqlite.Value{}, c.view.refuse(input.Usagef("ask for each time with a SELECT of its own, joined by UNION ALL", "a time of contacts cannot be part of OR"))
		}
		return sqlite.TextValue(c.key(row)), nil
	}
	column := c.view.columns[i]
	switch {
	case column.role == groups:
		return c.contactCursor.Column(slices.Index(t.view.Columns, column.Name), false)
	case column.role == times:
		return sqlite.Value{}, c.view.refuse(timeRefused(column.Name))
	}
	return column.sum(c, row), nil
}

// key identifies a row by its cells.
func (c *contactViewCursor) key(row *mergedRow) string {
	t := c.table
	var key []byte
	for _, cells := range [][]sqlite.Value{t.Tasks.of(row.Task), t.Remotes.of(row.Remote), t.Hows.of(row.How)} {
		for _, cell := range cells {
			text := cell.Text()
			key = fmt.Appendf(key, "%d:%d:%s", cell.Type(), len(text), text)
		}
	}
	return string(fmt.Appendf(key, "%d:%d", row.slot.wall, row.slot.clock))
}
