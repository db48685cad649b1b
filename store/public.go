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

// The public views of a tape are virtual tables over the same view in every segment. They push comparisons down to the
// segments. SQLite checks them again: a table may return too many rows, never too few.

// publicTable is one of the public views, over all segments of a tape.
type publicTable struct {
	tape    *Tape
	name    string
	columns []segment.ViewColumn
	key     int // column that identifies a row within a segment
	segment int // column with the segment's number
}

// newPublicTable registers a public view on the tape's connection.
func (t *Tape) newPublicTable(name string) error {
	p := &publicTable{tape: t, name: name, columns: segment.ViewColumns(name)}
	p.segment = p.column("segment")
	return t.Table(name, name, p)
}

// Disconnect has nothing to release.
func (p *publicTable) Disconnect() error { return nil }

// Destroy has nothing to remove.
func (p *publicTable) Destroy() error { return nil }

// Estimates for the planner: a view has many rows, an equality leaves few, and repeated look-ups take longer than in one
// table.
// again takes longer than it would in one table.
const (
	publicRows  = 1_000_000
	publicFound = 100
	lookupCost  = 10_000
)

// operators are pushed down.
var operators = map[sqlite.IndexConstraintOp]string{
	sqlite.IndexConstraintEq: "=", sqlite.IndexConstraintIs: "=", sqlite.IndexConstraintGT: ">", sqlite.IndexConstraintGE: ">=",
	sqlite.IndexConstraintLT: "<", sqlite.IndexConstraintLE: "<=",
}

// BestIndex accepts every comparison of a column in a segment's table. The plan is the used columns, as bits, and the
// comparisons.
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

// publicCursor iterates over the rows, segment by segment, oldest first.
type publicCursor struct {
	table *publicTable
	where []string // conditions on a segment's view
	args  []any
	only  int64 // number of the only segment in question; -1: all
	used  []int // used columns
	place []int // by column: index in used

	next    int // segment
	current int
	stmt    *sqlite.Stmt // nil: SQLite reads no segment
	release func()
	rows    [][]segment.Cell // rest of the current segment's rows, if from the manifest
}

// Filter restarts with the plan's comparisons.
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

// mostListed limits the values of IN that are pushed down: for more, reading every row is as fast.
const mostListed = 1000

// compare adds a comparison. It leaves comparisons of different types to SQLite, which may convert either side, and the
// order of texts, which may be numbers.
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

// small returns the current segment's rows in the window, if the manifest has them.
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

// hasRemovals reports whether this segment's gaps include retention's removals.
func (p *publicTable) hasRemovals(segment int) bool {
	return p.name == "gaps" && segment == 0 && len(p.tape.removalRows()) > 0
}

// column returns the index of a column.
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

// sql returns the query for the current segment.
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
		// a gap left open by a segment ended when the next one began
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

// RowID is never called: the table has none.
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

// Bound limits the public views to the window from since (included) to until (excluded): connections by time_ns, gaps by
// overlap. processes, endpoints and segments are not limited. A zero time means no limit.
func (t *Tape) Bound(since, until time.Time) { t.since, t.until = since, until }

// Bounds returns the window of the views.
func (t *Tape) Bounds() (since, until time.Time) { return t.since, t.until }

// within returns the window's conditions on a view.
func (t *Tape) within(view string) (conditions []string) {
	from, to := "time_ns >= %d", "time_ns < %d"
	switch view {
	case "connections", "inbound", "listeners", "sockets_opened", "lookups":
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
