package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/conntape/conntape/store"
	"zombiezen.com/go/sqlite"
)

// SQL over connections is asked over a virtual table that knows how the segments of a tape are made. SQLite tells it which
// columns are compared to what, so that it finds the connections of an address, a port or a program by the postings of
// sealed segments, and reads no more of the others than it must. What is compared is looked at again by SQLite: this
// table may hand over too much, and never too little. Its cells are those that the view of a segment has (see stream.go).

// virtualTable is the connections of a tape in the window of its views.
type virtualTable struct {
	nothingHeld
	ctx     context.Context
	tape    *store.Tape
	columns []string
}

// askVirtual makes it readable as connections while ask asks, and reads for as long as ctx lasts.
func askVirtual(ctx context.Context, tape *store.Tape, ask func() (Result, error)) (Result, error) {
	t := &virtualTable{ctx: ctx, tape: tape, columns: newKnownView().columns}
	if err := tape.Table("connections", "connections", t); err != nil {
		return Result{}, err
	}
	defer func() { t.ctx = context.Background() }()
	return ask()
}

// Estimates for the planner: how many connections there are, how many an equality leaves, and what it costs to find
// these. Looking for them again and again, for each row of another table, costs more than reading all once.
const (
	estimatedRows  = 10_000_000
	estimatedFound = 1000
	estimatedCost  = 100_000
)

// BestIndex takes every comparison that it can make use of.
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
		case by == nil, c.Op != sqlite.IndexConstraintEq && !(by.ordered && isRange(c.Op)):
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

// orderOf returns the order in which rows are wanted, if it is that of time.
func (t *virtualTable) orderOf(terms []sqlite.IndexOrderBy) timeOrder {
	switch {
	case len(terms) != 1 || terms[0].Column < 0 || terms[0].Column >= len(t.columns):
		return bySegment
	case t.columns[terms[0].Column] != "id" && t.columns[terms[0].Column] != "time_ns":
		return bySegment
	case terms[0].Desc:
		return newestFirst
	}
	return oldestFirst
}

func isRange(op sqlite.IndexConstraintOp) bool {
	return op == sqlite.IndexConstraintGT || op == sqlite.IndexConstraintGE || op == sqlite.IndexConstraintLT || op == sqlite.IndexConstraintLE
}

// comparison is what a column of the view may be compared by.
type comparison struct {
	kind    Kind   // of what it is compared to; any other is left to SQLite
	table   string // that tells: e endpoint, t task, s shape; "" the connection itself
	sql     string // condition on its row, %s is the list of values that the column may have
	ordered bool   // by < and > too
}

// comparisons are those of columns. A condition may be true of too many rows.
var comparisons = map[string]*comparison{
	"id":             {kind: Integer, ordered: true},
	"time_ns":        {kind: Integer, ordered: true},
	"time":           {kind: Text, ordered: true},
	"remote_address": {kind: Text, table: "e", sql: "e.address IN (%s)"},
	"remote_ip":      {kind: Text, table: "e", sql: "e.address IN (%s)"},
	"remote_port":    {kind: Integer, table: "e", sql: "e.port IN (%s)"},
	"pid":            {kind: Integer, table: "t", sql: "p.tgid IN (%s)"},
	"ppid":           {kind: Integer, table: "t", sql: "p.ppid IN (%s)"},
	"process_id":     {kind: Integer, table: "t", sql: "p.id IN (%s)"},
	"parent_id":      {kind: Integer, table: "t", sql: "p.parent IN (%s)"},
	"exe":            {kind: Text, table: "t", sql: "p.exe IN (%s)"},
	"cmdline":        {kind: Text, table: "t", sql: "p.cmdline IN (%s)"},
	"cwd":            {kind: Text, table: "t", sql: "p.cwd IN (%s)"},
	"ancestry":       {kind: Text, table: "t", sql: "p.ancestry IN (%s)"},
	"tid":            {kind: Integer, table: "t", sql: "t.tid IN (%s)"},
	"comm":           {kind: Text, table: "t", sql: "t.comm IN (%s)"},
	"uid":            {kind: Integer, table: "t", sql: "t.uid IN (%s)"},
	"gid":            {kind: Integer, table: "t", sql: "t.gid IN (%s)"},
	"euid":           {kind: Integer, table: "t", sql: "t.euid IN (%s)"},
	"loginuid":       {kind: Integer, table: "t", sql: "t.loginuid IN (%s)"},
	"session_id":     {kind: Integer, table: "t", sql: "t.session_id IN (%s)"},
	"netns":          {kind: Integer, table: "t", sql: "t.netns IN (%s)"},
	"user":           {kind: Text, table: "t", sql: "coalesce(t.user, p.user) IN (%s)"},
	"container":      {kind: Text, table: "t", sql: "coalesce(t.container, p.container) IN (%s)"},
	"cgroup":         {kind: Text, table: "t", sql: "coalesce(t.cgroup, p.cgroup) IN (%s)"},
	"via":            {kind: Text, table: "s", sql: "via IN (%s)"},
	"errno":          {kind: Integer, table: "s", sql: "errno IN (%s)"},
	"hook_errno":     {kind: Integer, table: "s", sql: "hook_errno IN (%s)"},
	"outcome": {kind: Text, table: "s", sql: `CASE
		WHEN hook_errno > 0 THEN 'denied' WHEN errno IS NULL THEN 'unknown'
		WHEN errno = 0 THEN iif('disconnected' IN (%[1]s), 'disconnected', iif('established' IN (%[1]s), 'established', 'set'))
		WHEN errno = 111 THEN 'refused' WHEN errno = 110 THEN 'timed out' WHEN errno IN (100, 101, 112, 113) THEN 'unreachable'
		WHEN errno IN (11, 114, 115) THEN 'in progress' WHEN errno IN (4, 512) THEN 'interrupted' WHEN errno = 106 THEN 'already connected'
		ELSE 'failed' END IN (%[1]s)`},
}

// Open opens a cursor.
func (t *virtualTable) Open() (sqlite.VTableCursor, error) { return &virtualCursor{table: t}, nil }

// compared is a comparison with a value.
type compared struct {
	*comparison
	column string
	op     sqlite.IndexConstraintOp
	values []sqlite.Value // any of them: several for IN
}

// mostInList is how many values of IN are looked up. For more of them every connection is read.
const mostInList = 10_000

// virtualCursor walks connections.
type virtualCursor struct {
	table    *virtualTable
	compared []compared
	order    timeOrder
	segments merger
	begun    *streamSegment // whose row it is at; nil: at the end

	cells []virtualCell // by column of the table
}

// virtualCell is where a column of the table is found in a row of a segment.
type virtualCell struct {
	used   bool
	origin origin
	place  int // among the columns of its origin
	column int // of the stream
}

// Filter begins anew, with what the plan compares.
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
		if by := (compared{comparisons[column], column, sqlite.IndexConstraintOp(number), values}); by.fits() {
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
	s := newStream(c.table.tape, columns, c.order)
	if s == nil {
		return errors.New("the views of the tape have a column that is not known")
	}
	for _, segment := range s.segments {
		segment.prepare = c.narrow
	}
	c.segments = merger{left: s.segments}
	return c.Next()
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

// RowID is not asked for: the table has none.
func (c *virtualCursor) RowID() (int64, error) { return 0, errors.New("the table has no rowid") }

// Close lets go of what is being read.
func (c *virtualCursor) Close() error {
	c.segments.close()
	c.begun = nil
	return nil
}

// Column returns a cell; the last column is the row's key.
func (c *virtualCursor) Column(i int, _ bool) (sqlite.Value, error) {
	row := &c.begun.row
	if i == len(c.cells) {
		return sqlite.TextValue(fmt.Sprintf("%d/%d", c.begun.source.index, row.id)), nil // the key
	}
	cell := c.cells[i]
	switch {
	case !cell.used:
		return sqlite.Value{}, fmt.Errorf("column %s was not asked for", c.table.columns[i])
	case row.whole != nil:
		return row.whole[cell.column].forSQLite(), nil
	case cell.origin != ofRow:
		return row.from[cell.origin].forSQLite(cell.place), nil
	}
	switch c.table.columns[i] {
	case "time":
		return sqlite.TextValue(string(c.begun.wallText.of(row.wall))), nil
	case "last_time":
		return sqlite.TextValue(string(c.begun.wallText.of(row.lastWall))), nil
	case "count":
		return sqlite.IntegerValue(row.count), nil
	case "fd":
		return row.fd.value().forSQLite(), nil
	case "cookie":
		return row.cookie.value().forSQLite(), nil
	}
	return sqlite.IntegerValue(row.id), nil
}

// forSQLite returns the value as a virtual table gives it.
func (v Value) forSQLite() sqlite.Value {
	switch v.Kind {
	case Integer:
		return sqlite.IntegerValue(v.Int)
	case Real:
		return sqlite.FloatValue(v.Real)
	case Text:
		return sqlite.TextValue(string(v.Bytes))
	case Blob:
		return sqlite.BlobValue(v.Bytes)
	}
	return sqlite.Value{}
}

// valueOf returns what forSQLite was made of.
func valueOf(v sqlite.Value) Value {
	switch v.Type() {
	case sqlite.TypeInteger:
		return intValue(v.Int64())
	case sqlite.TypeFloat:
		return Value{Kind: Real, Real: v.Float()}
	case sqlite.TypeText:
		return textValue(v.Text())
	case sqlite.TypeBlob:
		return Value{Kind: Blob, Bytes: v.Blob()}
	}
	return Value{}
}

// forSQLite returns a value of what is kept.
func (k *kept) forSQLite(place int) sqlite.Value {
	if k.given == nil {
		for _, v := range k.values {
			k.given = append(k.given, v.forSQLite())
		}
	}
	return k.given[place]
}

// mostByID is how many connections of a segment are looked up one by one.
const mostByID = 100_000

// narrow has no more read of a segment than what is compared can be true of, and reports whether that is any.
func (c *virtualCursor) narrow(to *streamSegment) (some bool, err error) {
	ctx := c.table.ctx
	s := &segmentSource{Source: to.source}
	if err := s.describe(ctx); err != nil {
		return false, err
	}
	from, until := max(to.from, s.first), min(to.to, s.last+1)
	for i := range c.compared {
		low, high := c.compared[i].span(s)
		from, until = max(from, low), min(until, high)
	}
	if from >= until {
		return false, nil
	}
	to.from, to.to = from, until
	sel := &selection{}
	if sel.remotes, err = c.remotes(s); err != nil || sel.remotes != nil && len(sel.remotes) == 0 {
		return false, err
	}
	if where := c.where("t"); where != "" {
		sel.tasks, err = s.list(ctx, `SELECT t.id FROM task t JOIN process p ON p.id = t.process WHERE `+where)
		if err != nil || len(sel.tasks) == 0 {
			return false, err
		}
	}
	sel.shapes = c.where("s")
	if sel.remotes == nil && sel.tasks == nil && sel.shapes == "" {
		return true, nil
	}
	found := &idLister{most: mostByID}
	err = s.chosen(ctx, sel, from, until, found)
	switch {
	case errors.Is(err, errTooMuch):
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

// idLister lists the ids of connections, not more than most.
type idLister struct {
	ids  []int64
	most int
}

func (l *idLister) begin(*segmentSource, int64, int64) {}

func (l *idLister) end(*segmentSource) error { return nil }

func (l *idLister) take(_ *segmentSource, c *contact) error {
	if len(l.ids)+len(c.ids) > l.most {
		return errTooMuch
	}
	l.ids = append(l.ids, c.ids...)
	return nil
}

// where returns the conditions on a table, "" none.
func (c *virtualCursor) where(table string) string {
	var all []string
	for i := range c.compared {
		if by := &c.compared[i]; by.table == table {
			all = append(all, fmt.Sprintf(by.sql, by.literals()))
		}
	}
	return strings.Join(all, " AND ")
}

// remotes returns the endpoints that it can be about, nil: any. Ports alone are found in the raw pages.
func (c *virtualCursor) remotes(s *segmentSource) ([]int64, error) {
	where := c.where("e")
	if where == "" {
		return nil, nil
	}
	var ports map[int64]bool
	for i := range c.compared {
		by := &c.compared[i]
		switch {
		case by.table != "e":
		case by.column != "remote_port":
			list, err := s.list(c.table.ctx, `SELECT id FROM endpoint e WHERE `+where)
			return append([]int64{}, list...), err
		case ports == nil: // of two comparisons of the port SQLite judges the second
			ports = make(map[int64]bool)
			for _, v := range by.values {
				ports[v.Int64()] = true
			}
		}
	}
	list := []int64{}
	err := s.tape.ScanEndpoints(c.table.ctx, s.index, func(id, _ int64, _ []byte, port int64) error {
		if ports[port] {
			list = append(list, id)
		}
		return nil
	})
	return list, err
}

// fits reports whether it is compared to values of the column's type alone. SQLite converts others, or the column.
func (c *compared) fits() bool {
	return len(c.values) <= mostInList && !slices.ContainsFunc(c.values, func(v sqlite.Value) bool {
		return !(v.Type() == sqlite.TypeInteger && c.kind == Integer || v.Type() == sqlite.TypeText && c.kind == Text)
	})
}

// literals returns the values as SQL. An IPv4 address is that of an IPv6 socket too.
func (c *compared) literals() string {
	all := make([]string, 0, len(c.values))
	for _, v := range c.values {
		all = append(all, literal(v))
		if c.column == "remote_ip" {
			all = append(all, literal(sqlite.TextValue("::ffff:"+v.Text())))
		}
	}
	return strings.Join(all, ", ")
}

// literal returns an integer or a text as SQL.
func literal(v sqlite.Value) string {
	text := v.Text()
	switch {
	case v.Type() == sqlite.TypeInteger:
		return strconv.FormatInt(v.Int64(), 10)
	case strings.Contains(text, "\x00"):
		return fmt.Sprintf("CAST(x'%x' AS TEXT)", text)
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// span returns the ids that it can be true of: from and, not included, to.
func (c *compared) span(s *segmentSource) (from, to int64) {
	if !c.ordered {
		return -never, never
	}
	from, to = never, -never
	for _, v := range c.values {
		low, high := c.moment(s, v)
		from, to = min(from, low), max(to, min(high, never-1)+1)
	}
	if c.op == sqlite.IndexConstraintLT || c.op == sqlite.IndexConstraintLE {
		from = -never
	}
	if c.op == sqlite.IndexConstraintGT || c.op == sqlite.IndexConstraintGE {
		to = never
	}
	return from, to
}

// moment returns the lowest and the highest id that a value of a column of time can mean.
func (c *compared) moment(s *segmentSource, v sqlite.Value) (low, high int64) {
	if c.kind == Integer {
		return v.Int64(), v.Int64()
	}
	at := boundary(v.Text())
	least, most := s.offsets()
	if at == 0 {
		return -never, minus(at, least) // what is before 1970, as on an altered tape, is not written in the order of time
	}
	return minus(at, most), minus(at, least)
}

// offsets returns by how much the wall clock was ahead of the ids, at least and at most.
func (s *segmentSource) offsets() (least, most int64) {
	for _, c := range s.clock {
		least, most = min(least, c.offset), max(most, c.offset)
	}
	return least, most
}

// boundary returns the first moment since 1970 whose time, as the views write it, is not less than a text; never: each is.
func boundary(text string) int64 {
	at := sort.Search(never, func(ns int) bool { return wallString(int64(ns)) >= text })
	return int64(at)
}

// minus returns a difference, or what is nearest to it.
func minus(a, b int64) int64 {
	if d := a - b; (a^b)&(a^d) >= 0 {
		return d
	}
	if a < 0 {
		return -never
	}
	return never
}
