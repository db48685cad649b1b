package table

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/format"
	"zombiezen.com/go/sqlite"
)

// comparison describes how a column of the view can be compared by push-down.
type comparison struct {
	kind    format.Kind // of the compared value; SQLite compares others
	table   string      // that decides: e endpoint, t task, s shape; "": the connection itself
	sql     string      // condition on the row; %s is the list of values
	ofView  string      // instead of sql: the column whose expression in the view is compared
	ordered bool        // < and > too
}

// comparisons are by column. A condition may match too many rows: SQLite checks again.
var comparisons = map[string]*comparison{
	"id":                {kind: format.Integer, ordered: true},
	"time_ns":           {kind: format.Integer, ordered: true},
	"time":              {kind: format.Text, ordered: true},
	"remote_address":    {kind: format.Text, table: "e", sql: "e.address IN (%s)"},
	"remote_ip":         {kind: format.Text, table: "e", sql: "e.address IN (%s)"},
	"remote":            {kind: format.Text, table: "e", ofView: "remote"},
	"remote_port":       {kind: format.Integer, table: "e", sql: "e.port IN (%s)"},
	"requested_address": {kind: format.Text, table: "e", sql: "e.requested IN (SELECT id FROM endpoint WHERE address IN (%s))"},
	"requested_port":    {kind: format.Integer, table: "e", sql: "e.requested IN (SELECT id FROM endpoint WHERE port IN (%s))"},
	"peer_pid":          {kind: format.Integer, table: "e", sql: "e.peer IN (SELECT id FROM process WHERE tgid IN (%s))"},
	"peer_exe":          {kind: format.Text, table: "e", sql: "e.peer IN (SELECT id FROM process WHERE exe IN (%s))"},
	"peer_unit":         {kind: format.Text, table: "e", sql: "e.peer IN (SELECT id FROM process WHERE unit IN (%s))"},
	"remote_name":       {kind: format.Text, table: "e", sql: "e.names IN (%s)"},
	"name_source":       {kind: format.Text, table: "e", sql: "e.name_source IN (%s)"},
	"pid":               {kind: format.Integer, table: "t", sql: "p.tgid IN (%s)"},
	"ppid":              {kind: format.Integer, table: "t", sql: "p.ppid IN (%s)"},
	"process_id":        {kind: format.Integer, table: "t", sql: "p.id IN (%s)"},
	"parent_id":         {kind: format.Integer, table: "t", sql: "p.parent IN (%s)"},
	"exe":               {kind: format.Text, table: "t", sql: "p.exe IN (%s)"},
	"cmdline":           {kind: format.Text, table: "t", sql: "p.cmdline IN (%s)"},
	"cwd":               {kind: format.Text, table: "t", sql: "p.cwd IN (%s)"},
	"ancestry":          {kind: format.Text, table: "t", sql: "p.ancestry IN (%s)"},
	"tid":               {kind: format.Integer, table: "t", sql: "t.tid IN (%s)"},
	"comm":              {kind: format.Text, table: "t", sql: "t.comm IN (%s)"},
	"uid":               {kind: format.Integer, table: "t", sql: "t.uid IN (%s)"},
	"gid":               {kind: format.Integer, table: "t", sql: "t.gid IN (%s)"},
	"euid":              {kind: format.Integer, table: "t", sql: "t.euid IN (%s)"},
	"loginuid":          {kind: format.Integer, table: "t", sql: "t.loginuid IN (%s)"},
	"session_id":        {kind: format.Integer, table: "t", sql: "t.session_id IN (%s)"},
	"netns":             {kind: format.Integer, table: "t", sql: "t.netns IN (%s)"},
	"user":              {kind: format.Text, table: "t", sql: "coalesce(t.user, p.user) IN (%s)"},
	"container":         {kind: format.Text, table: "t", sql: "coalesce(t.container, p.container) IN (%s)"},
	"cgroup":            {kind: format.Text, table: "t", sql: "coalesce(t.cgroup, p.cgroup) IN (%s)"},
	"via":               {kind: format.Text, table: "s", sql: "via IN (%s)"},
	"errno":             {kind: format.Integer, table: "s", sql: "errno IN (%s)"},
	"hook_errno":        {kind: format.Integer, table: "s", sql: "hook_errno IN (%s)"},
	"outcome": {kind: format.Text, table: "s", sql: `CASE
		WHEN hook_errno > 0 THEN 'denied' ELSE CASE ` + finalErrno + `
		WHEN 0 THEN iif('disconnected' IN (%[1]s), 'disconnected', iif('established' IN (%[1]s), 'established', 'set'))
		WHEN 111 THEN 'refused' WHEN 110 THEN 'timed out' WHEN 125 THEN 'aborted' WHEN 106 THEN 'already connected' WHEN 114 THEN 'already connecting'
		WHEN 92 THEN 'unreachable' WHEN 100 THEN 'unreachable' WHEN 101 THEN 'unreachable' WHEN 112 THEN 'unreachable' WHEN 113 THEN 'unreachable'
		WHEN 32 THEN 'reset' WHEN 103 THEN 'reset' WHEN 104 THEN 'reset' WHEN 4 THEN 'interrupted' WHEN 512 THEN 'interrupted'
		WHEN 11 THEN iif('in progress' IN (%[1]s), 'in progress', 'unknown') WHEN 115 THEN iif('in progress' IN (%[1]s), 'in progress', 'unknown')
		WHEN -1 THEN 'unknown' ELSE 'failed' END END IN (%[1]s)`},
}

// finalErrno is the final errno of a shape, -1 if unknown: connect's result, if that is final.
const finalErrno = `coalesce(CASE WHEN errno NOT IN (0, 4, 11, 115, 512) THEN errno END, final, errno, -1)`

// compared is a comparison with a value.
type compared struct {
	*comparison
	column string
	op     sqlite.IndexConstraintOp
	values []sqlite.Value // any of them matches: several for IN
}

// comparedList is comparisons joined by AND.
type comparedList []compared

// choose returns the rows of a segment that may match; nil: none. It is a [chooser].
func (l comparedList) choose(ctx context.Context, s *SegmentSource) (sel *Selection, err error) {
	sel = &Selection{shapes: l.where("s")}
	if sel.Remotes, err = l.remotes(ctx, s); err != nil || sel.Remotes != nil && len(sel.Remotes) == 0 {
		return nil, err
	}
	if where := l.where("t"); where != "" {
		sel.tasks, err = s.list(ctx, `SELECT t.id FROM task t JOIN process p ON p.id = t.process WHERE `+where)
		if err != nil || len(sel.tasks) == 0 {
			return nil, err
		}
	}
	return sel, nil
}

// where returns the conditions on a table, "" for none.
func (l comparedList) where(table string) string {
	var all []string
	for i := range l {
		if l[i].table == table {
			all = append(all, l[i].condition())
		}
	}
	return strings.Join(all, " AND ")
}

// remotes returns the endpoints that may match, nil for any. It finds a bare port in the raw pages.
func (l comparedList) remotes(ctx context.Context, s *SegmentSource) ([]int64, error) {
	where := l.where("e")
	if where == "" {
		return nil, nil
	}
	var ports map[int64]bool
	for i := range l {
		by := &l[i]
		switch {
		case by.table != "e":
		case by.column != "remote_port":
			list, err := s.list(ctx, `SELECT id FROM endpoint e WHERE `+where)
			return append([]int64{}, list...), err
		case ports == nil: // SQLite checks a second condition on the port
			ports = make(map[int64]bool)
			for _, v := range by.values {
				ports[v.Int64()] = true
			}
		}
	}
	list := []int64{}
	err := s.Tape.ScanEndpoints(ctx, s.Index, func(id, _ int64, _ []byte, port int64) error {
		if ports[port] {
			list = append(list, id)
		}
		return nil
	})
	return list, err
}

// condition returns the comparison as a condition on the row of its table.
func (c *compared) condition() string {
	if op, isPattern := patternOps[c.op]; isPattern { // SQLite does not pass on a pattern with ESCAPE
		condition := c.expression() + " " + op + " "
		if c.column == "remote_ip" { // an IPv4 address of an IPv6 socket has a prefix in the table
			return "(" + condition + literal(c.values[0]) + " OR " + condition + literal(sqlite.TextValue("::ffff:"+c.values[0].Text())) + ")"
		}
		return condition + literal(c.values[0])
	}
	return fmt.Sprintf(c.text(), c.literals())
}

// patternOps are comparisons with a pattern. They are evaluated as in SQLite, once for each row of a segment's tables.
var patternOps = map[sqlite.IndexConstraintOp]string{sqlite.IndexConstraintLike: "LIKE", sqlite.IndexConstraintGlob: "GLOB"}

// text returns the condition on the row.
func (c *comparison) text() string {
	if c.ofView != "" {
		return "(" + NewKnownView().says[c.ofView] + ") IN (%s)"
	}
	return c.sql
}

// expression returns the column over the tables of a segment, "" if it is not a plain column.
func (c *comparison) expression() string {
	expression, simple := strings.CutSuffix(c.text(), " IN (%s)")
	if !simple || c.kind != format.Text {
		return ""
	}
	return expression
}

// takesPattern reports whether the column may be compared with a pattern.
func (c *comparison) takesPattern(op sqlite.IndexConstraintOp) bool {
	return patternOps[op] != "" && c.table != "" && c.expression() != ""
}

// fits reports whether there are at most so many values, and all have the column's type. SQLite would convert others, or the column.
func (c *compared) fits(most int) bool {
	return len(c.values) <= most && !slices.ContainsFunc(c.values, func(v sqlite.Value) bool {
		return !(v.Type() == sqlite.TypeInteger && c.kind == format.Integer || v.Type() == sqlite.TypeText && c.kind == format.Text)
	})
}

// literals returns the values as SQL. An IPv4 address matches IPv6 sockets too.
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

// span returns the ids that may match: from (included) and to (excluded).
func (c *compared) span(s *SegmentSource) (from, to int64) {
	if !c.ordered {
		return -Never, Never
	}
	from, to = Never, -Never
	for _, v := range c.values {
		low, high := c.moment(s, v)
		from, to = min(from, low), max(to, min(high, Never-1)+1)
	}
	if c.op == sqlite.IndexConstraintLT || c.op == sqlite.IndexConstraintLE {
		from = -Never
	}
	if c.op == sqlite.IndexConstraintGT || c.op == sqlite.IndexConstraintGE {
		to = Never
	}
	return from, to
}

// moment returns the lowest and highest id for a value of a time column.
func (c *compared) moment(s *SegmentSource, v sqlite.Value) (low, high int64) {
	if c.kind == format.Integer {
		return v.Int64(), v.Int64()
	}
	at := boundary(v.Text())
	least, most := s.offsets()
	if at == 0 {
		return -Never, minus(at, least) // times before 1970, as on an altered tape, do not sort as text
	}
	return minus(at, most), minus(at, least)
}

// offsets returns the least and the greatest difference between wall clock and ids.
func (s *SegmentSource) offsets() (least, most int64) {
	for _, c := range s.clock {
		least, most = min(least, c.offset), max(most, c.offset)
	}
	return least, most
}

// boundary returns the first moment since 1970 whose text is not less than this; never if there is none.
func boundary(text string) int64 {
	at := sort.Search(Never, func(ns int) bool { return format.WallString(int64(ns)) >= text })
	return int64(at)
}

// minus subtracts with saturation.
func minus(a, b int64) int64 {
	if d := a - b; (a^b)&(a^d) >= 0 {
		return d
	}
	if a < 0 {
		return -Never
	}
	return Never
}
