package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// The public views of a tape are virtual tables, each over the view of that name in every segment. Of what SQL compares
// columns to they hand on to a segment what finds rows there; SQLite looks at all of it again, so that a table may hand
// over too many rows and never too few.

// publicTable is one of the public views, over all segments of a tape.
type publicTable struct {
	tape    *Tape
	name    string
	columns []segment.ViewColumn
	key     int // the column that tells rows of one segment apart
	segment int // the column that is the number of the segment
}

// newPublicTable makes a public view readable on the connection of the tape.
func (t *Tape) newPublicTable(name string) error {
	p := &publicTable{tape: t, name: name, columns: segment.ViewColumns(name)}
	p.segment = p.column("segment")
	return t.Table(name, name, p)
}

// Disconnect has nothing to release.
func (p *publicTable) Disconnect() error { return nil }

// Destroy has nothing to remove.
func (p *publicTable) Destroy() error { return nil }

// What the planner is told of a view: there are many rows, an equality leaves few of them, and to look for these again and
// again takes longer than it would in one table.
const (
	publicRows  = 1_000_000
	publicFound = 100
	lookupCost  = 10_000
)

// operators are the comparisons that are handed on.
var operators = map[sqlite.IndexConstraintOp]string{
	sqlite.IndexConstraintEq: "=", sqlite.IndexConstraintIs: "=", sqlite.IndexConstraintGT: ">", sqlite.IndexConstraintGE: ">=",
	sqlite.IndexConstraintLT: "<", sqlite.IndexConstraintLE: "<=",
}

// BestIndex takes every comparison of a column that a table of the segment has. The plan is the columns that are used,
// as bits, and the comparisons.
func (p *publicTable) BestIndex(in *sqlite.IndexInputs) (*sqlite.IndexOutputs, error) {
	out := &sqlite.IndexOutputs{ConstraintUsage: make([]sqlite.IndexConstraintUsage, len(in.Constraints)), EstimatedCost: publicRows, EstimatedRows: publicRows}
	plan := []string{strconv.FormatUint(in.ColumnsUsed, 16)}
	for i, c := range in.Constraints {
		if !c.Usable || c.Column < 0 || c.Column >= len(p.columns) || p.columns[c.Column].Type == "" || operators[c.Op] == "" || c.Collation != "BINARY" {
			continue
		}
		if operators[c.Op] == "=" {
			out.EstimatedCost, out.EstimatedRows = lookupCost, min(out.EstimatedRows, publicFound)
		} else {
			out.EstimatedCost, out.EstimatedRows = out.EstimatedCost/3, max(1, out.EstimatedRows/3)
		}
		out.ConstraintUsage[i].ArgvIndex = len(plan)
		plan = append(plan, fmt.Sprintf("%d %s", c.Column, operators[c.Op]))
	}
	out.ID.String = strings.Join(plan, ",")
	return out, nil
}

// Open opens a cursor.
func (p *publicTable) Open() (sqlite.VTableCursor, error) { return &publicCursor{table: p}, nil }

// publicCursor walks the rows, segment by segment, oldest first.
type publicCursor struct {
	table *publicTable
	where []string // conditions on the view of a segment
	args  []any
	only  int64 // number of the one segment that is asked for, -1: all
	used  []int // columns that are read
	place []int // by column: its place among these

	next    int // segment
	current int
	stmt    *sqlite.Stmt // nil: no segment is being read through SQLite
	release func()
	rows    [][]segment.Cell // of the current segment that the manifest has: the first is the one that it is at
}

// Filter begins anew, with what the plan compares.
func (c *publicCursor) Filter(id sqlite.IndexID, args []sqlite.Value) error {
	if err := c.Close(); err != nil {
		return err
	}
	p := c.table
	plan := strings.Split(id.String, ",")
	mask, err := strconv.ParseUint(plan[0], 16, 64)
	if err != nil || len(plan) != len(args)+1 {
		return errors.New("the plan of a virtual table is odd")
	}
	*c = publicCursor{table: p, only: -1, place: make([]int, len(p.columns))}
	for i := range p.columns {
		if mask>>min(i, 63)&1 != 0 || i == p.key && mask>>min(len(p.columns), 63)&1 != 0 {
			c.place[i], c.used = len(c.used), append(c.used, i)
		}
	}
	for i, what := range plan[1:] {
		number, op, _ := strings.Cut(what, " ")
		column, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		c.compare(column, op, args[i])
	}
	return c.Next()
}

// mostListed is how many values of IN are handed on; to read every row takes no longer than to look so many up.
const mostListed = 1000

// compare notes a comparison. What a column of one type is compared to of another is left to SQLite: it may convert either.
// So is the order of texts, which may be numbers to it.
func (c *publicCursor) compare(column int, op string, v sqlite.Value) {
	by := c.table.columns[column]
	list, isList := InList(v)
	if !isList {
		list = []sqlite.Value{v}
	} else if len(list) > mostListed {
		return
	}
	args := make([]any, len(list))
	for i, v := range list {
		switch {
		case by.Type == "INTEGER" && v.Type() == sqlite.TypeInteger:
			args[i] = v.Int64()
		case by.Type == "TEXT" && v.Type() == sqlite.TypeText && op == "=":
			args[i] = v.Text()
		default:
			return
		}
	}
	c.args = append(c.args, args...)
	if isList {
		c.where = append(c.where, by.Name+" IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(list)), ", ")+")")
		return
	}
	if column == c.table.segment && op == "=" {
		c.only = v.Int64()
	}
	c.where = append(c.where, by.Name+" "+op+" ?")
}

// Next goes to the next row.
func (c *publicCursor) Next() error {
	for {
		if len(c.rows) > 0 {
			c.rows = c.rows[1:]
		}
		if len(c.rows) > 0 {
			return nil
		}
		if c.stmt != nil {
			if segment.Interrupted(c.table.tape.conn) {
				return sqlite.ResultInterrupt.ToError()
			}
			if more, err := c.stmt.Step(); err != nil || more {
				return err
			}
			if err := c.finish(); err != nil {
				return err
			}
		}
		segments := c.table.tape.segs
		for c.only >= 0 && c.next < len(segments) && int64(segments[c.next].Info.Number) != c.only && !c.table.hasRemovals(c.next) {
			c.next++
		}
		if c.next >= len(segments) {
			return nil
		}
		c.current = c.next
		c.next++
		if rows, known := c.small(); known {
			if c.rows = rows; len(rows) > 0 {
				return nil
			}
			continue
		}
		if err := c.begin(); err != nil && !errors.Is(err, segment.ErrGone) {
			return err
		}
	}
}

// small returns the rows of the current segment if the manifest has them: all that are in the window.
func (c *publicCursor) small() (rows [][]segment.Cell, known bool) {
	t, p := c.table.tape, c.table
	all, known := t.segs[c.current].SmallRows(p.name)
	if !known || p.hasRemovals(c.current) || slices.ContainsFunc(all, func(row []segment.Cell) bool { return len(row) != len(p.columns) }) {
		return nil, false
	}
	if p.name != "gaps" {
		return all, true
	}
	from, to := p.column("from_ns"), p.column("to_ns")
	for _, row := range all {
		if row[to].Kind == int64(sqlite.TypeNull) {
			return nil, false // an open gap ended when the next segment began
		}
		if (t.since.IsZero() || row[to].Number >= t.since.UnixNano()) && (t.until.IsZero() || row[from].Kind == int64(sqlite.TypeNull) || row[from].Number < t.until.UnixNano()) {
			rows = append(rows, row)
		}
	}
	return rows, true
}

// hasRemovals reports whether what retention has removed is told with this segment.
func (p *publicTable) hasRemovals(segment int) bool {
	return p.name == "gaps" && segment == 0 && len(p.tape.removalRows()) > 0
}

// column returns the place of a column.
func (p *publicTable) column(name string) int {
	return slices.IndexFunc(p.columns, func(c segment.ViewColumn) bool { return c.Name == name })
}

// begin begins to read the current segment.
func (c *publicCursor) begin() error {
	conn, release, err := c.table.tape.Borrow(c.current)
	if err != nil {
		return err
	}
	c.release = release
	if c.stmt, _, err = conn.PrepareTransient(c.sql()); err != nil {
		release()
		return err
	}
	for i, arg := range c.args {
		if err := segment.Bind(c.stmt, i+1, arg); err != nil {
			return err
		}
	}
	return nil
}

// sql returns the question to the current segment.
func (c *publicCursor) sql() string {
	p := c.table
	columns, from := []string{}, p.name
	for _, i := range c.used {
		columns = append(columns, p.columns[i].Name)
	}
	if len(columns) == 0 {
		columns = []string{"NULL"}
	}
	segments := p.tape.segs
	if p.name == "gaps" && c.current+1 < len(segments) {
		// What an earlier segment left open ended when the next one began.
		schema, err := segment.ExpectedSchema(segments[c.current].Info.SchemaVersion)
		if err == nil {
			_, body, _ := strings.Cut(schema["gaps"], " AS\n")
			from = "(" + strings.ReplaceAll(body, "g.to_ns", fmt.Sprintf("coalesce(g.to_ns, %d)", segments[c.current+1].Created)) + ")"
		}
	}
	if p.hasRemovals(c.current) {
		from = p.tape.withRemovals(from)
	}
	sql := "SELECT " + strings.Join(columns, ", ") + " FROM " + from
	if where := append(p.tape.within(p.name), c.where...); len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	return sql
}

// finish ends what is read of a segment.
func (c *publicCursor) finish() error {
	if c.stmt == nil {
		return nil
	}
	err := c.stmt.Finalize()
	c.stmt = nil
	c.release()
	return err
}

// EOF reports whether there is no row any more.
func (c *publicCursor) EOF() bool { return c.stmt == nil && len(c.rows) == 0 }

// Close lets go of what is being read.
func (c *publicCursor) Close() error { return c.finish() }

// RowID is not asked for: the table has none.
func (c *publicCursor) RowID() (int64, error) { return 0, errors.New("the table has no rowid") }

// Column returns a cell; the last column is the row's key.
func (c *publicCursor) Column(i int, _ bool) (sqlite.Value, error) {
	if len(c.rows) > 0 {
		if i == len(c.table.columns) {
			return sqlite.TextValue(fmt.Sprintf("%d/%d", c.current, c.rows[0][c.table.key].Number)), nil
		}
		return c.rows[0][i].Value(), nil
	}
	if i == len(c.table.columns) {
		return sqlite.TextValue(fmt.Sprintf("%d/%s", c.current, c.stmt.ColumnText(c.place[c.table.key]))), nil
	}
	place := c.place[i]
	switch c.stmt.ColumnType(place) {
	case sqlite.TypeInteger:
		return sqlite.IntegerValue(c.stmt.ColumnInt64(place)), nil
	case sqlite.TypeFloat:
		return sqlite.FloatValue(c.stmt.ColumnFloat(place)), nil
	case sqlite.TypeText:
		return sqlite.TextValue(c.stmt.ColumnText(place)), nil
	case sqlite.TypeBlob:
		blob := make([]byte, c.stmt.ColumnLen(place))
		c.stmt.ColumnBytes(place, blob)
		return sqlite.BlobValue(blob), nil
	}
	return sqlite.Value{}, nil
}

// Bound narrows the public views to the window from since, which is inside it,
// to until, which is not: connections to those whose time_ns lies in it, gaps to
// those that overlap it. processes, endpoints and segments stay whole. A zero
// time leaves that end open, and two of them lift the bounds.
func (t *Tape) Bound(since, until time.Time) { t.since, t.until = since, until }

// Bounds returns the window that the views are narrowed to.
func (t *Tape) Bounds() (since, until time.Time) { return t.since, t.until }

// within returns the conditions on the rows of a view that are in the window.
func (t *Tape) within(view string) (conditions []string) {
	from, to := "time_ns >= %d", "time_ns < %d"
	switch view {
	case "connections":
	case "gaps":
		from, to = "coalesce(to_ns >= %d, 1)", "coalesce(from_ns < %d, 1)"
	default:
		return nil
	}
	if !t.since.IsZero() {
		conditions = append(conditions, fmt.Sprintf(from, t.since.UnixNano()))
	}
	if !t.until.IsZero() {
		conditions = append(conditions, fmt.Sprintf(to, t.until.UnixNano()))
	}
	return conditions
}
