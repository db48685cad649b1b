package table

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/sqltext"
	"github.com/conntape/conntape/store/segment"
)

// A statement over connections that counts is asked of contacts: count(*) is the sum of their rows, sum(count) that of their
// connects. The answer is the same, as contacts have one row for each combination of the columns that the statement names. It
// is of this grammar, beside that of package sqltext:
//
//   - FROM begins with connections. What is joined to it is processes, endpoints, segments or gaps: their rows are met by all
//     connections of a contact alike.
//   - Aggregates are count(*), count(e), count(DISTINCT e), sum(count), sum(c), min(e), max(e), and min and max of time,
//     time_ns, id and last_time, each with FILTER or without. A c is a count: an integer, a condition, or a CASE of them.
//   - An e is an expression of the columns that contacts have, whose value nothing else decides: no time, no fd. But the hour
//     or minute of a time may be in it: substr(time, 1, n) with an n up to 16, and time_ns divided by a multiple of a minute.
//   - WHERE compares time and time_ns to what is the same for all rows, by =, <, <=, >, >= or BETWEEN, joined by AND. All else
//     in it is e. IN may have a subquery; one that is a list of one column is asked of contacts in its turn.
//   - What SELECT, HAVING and ORDER BY name outside aggregates is grouped by, or what SELECT DISTINCT has.
//
// A statement of any other form is asked of connections, row by row.

// countedTable is the table that it is asked of: contacts with columns of other names, which no statement has.
const countedTable = "counted_contacts"

// countedPrefix begins their names.
const countedPrefix = "counted_"

// countedTimes are the columns that min and max of a time are taken of.
var countedTimes = map[string]string{
	"min time": "first", "max time": "newest", "min time_ns": "first_ns", "max time_ns": "newest_ns", "min id": "first_ns", "max id": "newest_ns",
	"min last_time": "ended", "max last_time": "last",
}

// byRows is why a statement is asked row by row.
type byRows struct{ why string }

// Error says why.
func (e *byRows) Error() string { return e.why }

func rowsBecause(format string, args ...any) error { return &byRows{fmt.Sprintf(format, args...)} }

// countedSQL returns the statement over contacts that has the same answer, and by what they are cut; or an error that says why
// there is none.
func countedSQL(sql string) (string, slots, error) {
	if strings.Contains(strings.ToLower(sql), countedPrefix) {
		return "", slots{}, rowsBecause("it names what begins with %s", countedPrefix)
	}
	s, err := sqltext.Parse(sql)
	if err != nil {
		return "", slots{}, rowsBecause("%v", err)
	}
	cut, by := inSlots(sql, s)
	if by != (slots{}) {
		if s, err = sqltext.Parse(cut); err != nil {
			return "", slots{}, rowsBecause("%v", err)
		}
	}
	c := &counter{sql: cut, Select: s}
	if err := c.rewrite(false); err != nil {
		return "", slots{}, err
	}
	return c.edited(), by, nil
}

// counter rewrites a statement.
type counter struct {
	*sqltext.Select
	sql     string
	columns map[string]columnUse     // by name: of all tables
	aliases map[string]*sqltext.Expr // by name: of results
	plain   map[string]bool          // columns that are grouped by
	grouped []*sqltext.Expr          // what is
	inWhere bool
	edits   []edit
}

// edit puts a text in the place of a part of the statement.
type edit struct {
	from, to int
	text     string
}

// columnUse is what a name may be used for.
type columnUse int

const (
	unknownName columnUse = iota
	groupColumn
	timeColumn // of a connection
	rowColumn  // of a connection alone
)

// edited returns the statement with its edits.
func (c *counter) edited() string {
	slices.SortFunc(c.edits, func(a, b edit) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for _, e := range c.edits {
		b.WriteString(c.sql[at:e.from] + e.text)
		at = e.to
	}
	return b.String() + c.sql[at:]
}

// rewrite collects the edits. inList: it is the right side of IN, where it does not matter how often a row is there.
func (c *counter) rewrite(inList bool) error {
	if err := c.tables(); err != nil {
		return err
	}
	c.aliases = make(map[string]*sqltext.Expr)
	for _, r := range c.Results {
		if r.Alias != "" {
			c.aliases[r.Alias] = r.Expr
		}
	}
	inList = inList && len(c.Limit) == 0
	counts := slices.ContainsFunc(append(c.OrderBy, c.Having), hasAggregate) || slices.ContainsFunc(c.Results, func(r sqltext.Result) bool { return hasAggregate(r.Expr) })
	if !counts && len(c.GroupBy) == 0 && !c.Distinct && !inList {
		return rowsBecause("it lists connections and does not count them")
	}
	if err := c.groups(inList); err != nil {
		return err
	}
	for _, r := range c.Results {
		if err := c.shown(r.Expr); err != nil {
			return err
		}
	}
	if err := c.shown(c.Having); err != nil {
		return err
	}
	for _, e := range c.OrderBy {
		if e.Op == sqltext.Column && e.Table == "" && c.aliases[e.Name] != nil || e.Op == sqltext.Literal {
			continue
		}
		if e.Op == sqltext.Collate {
			e = e.Args[0]
		}
		if err := c.shown(e); err != nil {
			return err
		}
	}
	return c.conditions()
}

// tables looks at FROM, and collects the columns.
func (c *counter) tables() error {
	c.columns = make(map[string]columnUse)
	for i, t := range c.From {
		switch {
		case (i == 0) != (t.Name == "connections"):
			return rowsBecause("it is not about connections first of all, and once")
		case i > 0 && !slices.Contains([]string{"processes", "endpoints", "segments", "gaps"}, t.Name):
			return rowsBecause("it joins %s", t.Name)
		}
		for _, column := range segment.ViewColumns(t.Name) {
			use := groupColumn
			if o, _ := originOf(column.Name); i == 0 && (o == ofRow || o == ofLocal) {
				use = rowColumn
				if column.Name == "time" || column.Name == "time_ns" {
					use = timeColumn
				}
			}
			c.columns[column.Name] = max(c.columns[column.Name], use)
		}
		for _, name := range t.Using {
			if c.columns[name] != groupColumn {
				return rowsBecause("it joins by %s", name)
			}
		}
		if err := c.fixed(t.On); err != nil {
			return err
		}
	}
	for name := range slotColumns {
		c.columns[name] = groupColumn
	}
	first := c.From[0]
	alias := first.Alias
	if alias == "" {
		alias = "connections"
	}
	c.edits = append(c.edits, edit{first.From, first.To, countedTable + ` AS "` + strings.ReplaceAll(alias, `"`, `""`) + `"`})
	return nil
}

// groups finds out what is grouped by.
func (c *counter) groups(isList bool) error {
	c.plain = make(map[string]bool)
	terms := c.GroupBy
	if len(terms) == 0 && (c.Distinct || isList) && !slices.ContainsFunc(c.Results, func(r sqltext.Result) bool { return hasAggregate(r.Expr) }) {
		if !isList && (hasOr(c.Where) || len(c.From) > 1) {
			return rowsBecause("SELECT DISTINCT with OR or a join finds its rows in another order")
		}
		for _, r := range c.Results {
			terms = append(terms, r.Expr)
		}
	}
	for _, e := range terms {
		switch {
		case e.Op == sqltext.Literal:
			n, err := strconv.Atoi(c.text(e))
			if err != nil || n < 1 || n > len(c.Results) {
				return rowsBecause("it groups by %.40s", c.text(e))
			}
			e = c.Results[n-1].Expr
		case e.Op == sqltext.Column && e.Table == "" && c.columns[e.Name] == unknownName && c.aliases[e.Name] != nil:
			e = c.aliases[e.Name]
		}
		if err := c.fixed(e); err != nil {
			return err
		}
		if e.Op == sqltext.Column && len(c.From) == 1 {
			c.plain[e.Name] = true
		}
		c.grouped = append(c.grouped, e)
	}
	return nil
}

// text returns an expression as it is written.
func (c *counter) text(e *sqltext.Expr) string { return c.sql[e.From:e.To] }

// shown rewrites an expression of SELECT, HAVING or ORDER BY.
func (c *counter) shown(e *sqltext.Expr) (err error) {
	e.Walk(func(e *sqltext.Expr) bool {
		switch {
		case err != nil || c.isGrouped(e):
			return false
		case isAggregate(e):
			err = c.aggregate(e)
			return false
		case e.Op == sqltext.Column && e.Table == "" && c.columns[e.Name] == unknownName && c.aliases[e.Name] != nil:
			return false // it is looked at where it stands
		case e.Op == sqltext.Column && !c.plain[e.Name]:
			err = rowsBecause("it does not group by %s", e.Name)
		default:
			err = c.fixedAlone(e)
		}
		return err == nil
	})
	return err
}

// isGrouped reports whether an expression is grouped by.
func (c *counter) isGrouped(e *sqltext.Expr) bool {
	return slices.ContainsFunc(c.grouped, func(g *sqltext.Expr) bool { return g == e || c.text(g) == c.text(e) })
}

// aggregate rewrites the call of an aggregate function.
func (c *counter) aggregate(e *sqltext.Expr) error {
	if e.Filter != nil {
		if err := c.fixed(e.Filter); err != nil {
			return err
		}
	}
	var of *sqltext.Expr
	if len(e.Args) == 1 {
		of = e.Args[0]
	} else if e.Name != "count" || len(e.Args) > 0 {
		return rowsBecause("it calls %s", e.Name)
	}
	time := ""
	if of != nil && of.Op == sqltext.Column && c.columns[of.Name] > groupColumn {
		time = countedTimes[e.Name+" "+of.Name]
	}
	switch {
	case time != "":
		c.edits = append(c.edits, edit{of.From, of.To, countedPrefix + time})
		return nil
	case e.Name == "sum" && !e.Distinct && of.Op == sqltext.Column && of.Name == "count":
		c.edits = append(c.edits, edit{of.From, of.To, countedPrefix + "connects"})
		return nil
	case of != nil:
		if err := c.fixed(of); err != nil {
			return err
		}
	}
	switch {
	case e.Name == "min" || e.Name == "max" || e.Name == "count" && e.Distinct:
		return nil // it does not matter how often a row is there
	case e.Name == "count":
		c.edits = append(c.edits, edit{e.From, e.To, "coalesce(sum(" + countedPrefix + "rows)" + c.filter(e, of) + ", 0)"})
		return nil
	case e.Name == "sum" && !e.Distinct && isCount(c.sql, of):
		c.edits = append(c.edits, edit{of.From, of.To, "(" + c.text(of) + ") * " + countedPrefix + "rows"})
		return nil
	}
	return rowsBecause("it calls %s", c.text(e))
}

// filter returns the FILTER of count(of), nil: count(*).
func (c *counter) filter(e, of *sqltext.Expr) string {
	var all []string
	if of != nil {
		all = append(all, "("+c.text(of)+") IS NOT NULL")
	}
	if e.Filter != nil {
		all = append(all, "("+c.text(e.Filter)+")")
	}
	if len(all) == 0 {
		return ""
	}
	return " FILTER (WHERE " + strings.Join(all, " AND ") + ")"
}

// conditions looks at WHERE.
func (c *counter) conditions() error {
	c.inWhere = true
	for terms := []*sqltext.Expr{c.Where}; len(terms) > 0; {
		e := terms[0]
		terms = terms[1:]
		switch {
		case e == nil:
		case e.Op == sqltext.And:
			terms = append(terms, e.Args...)
		case e.Op == sqltext.In && e.Args[1].Op == sqltext.Subquery:
			if err := c.fixed(e.Args[0]); err != nil {
				return err
			}
			c.list(e.Args[1].Select)
		case isComparison(e):
			if err := c.comparison(e); err != nil {
				return err
			}
		default:
			if err := c.fixed(withoutCollate(e)); err != nil {
				return err
			}
		}
	}
	return nil
}

// comparison looks at one of WHERE: of a time to what is the same for all rows, or of columns of contacts.
func (c *counter) comparison(e *sqltext.Expr) error {
	times := 0
	for _, side := range e.Args {
		switch {
		case side.Op == sqltext.Column && c.columns[side.Name] == timeColumn:
			times++
		default:
			if err := c.fixed(withoutCollate(side)); err != nil {
				return err
			}
		}
	}
	if times > 0 && (times > 1 || strings.HasPrefix(e.Name, "is") || e.Name == "<>" || e.Name == "!=" || e.Op == sqltext.Between && e.Args[0].Op != sqltext.Column) {
		return rowsBecause("it compares time in a way that contacts do not know")
	}
	return nil
}

// list has the right side of IN asked of contacts, if that can be done.
func (c *counter) list(s *sqltext.Select) {
	if s == nil {
		return
	}
	inner := &counter{sql: c.sql, Select: s}
	if inner.rewrite(true) == nil {
		c.edits = append(c.edits, inner.edits...)
	}
}
