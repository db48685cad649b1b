package table

import (
	"strings"

	"github.com/conntape/conntape/query/sqltext"
)

// fixed reports, by an error, whether an expression has a value that the columns of a contact do not decide.
func (c *counter) fixed(e *sqltext.Expr) (err error) {
	e.Walk(func(e *sqltext.Expr) bool {
		if err == nil {
			err = c.fixedAlone(e)
		}
		return err == nil
	})
	return err
}

func (c *counter) fixedAlone(e *sqltext.Expr) error {
	switch e.Op {
	case sqltext.Column:
		switch c.columns[e.Name] {
		case groupColumn:
			return nil
		case unknownName:
			return rowsBecause("it names %s in a place where a column is expected", e.Name)
		}
		return rowsBecause("it asks for %s of each connection", e.Name)
	case sqltext.Call:
		if !fixedFunctions[e.Name] || e.Star || e.Distinct || e.Filter != nil || len(e.Args) < 2 && (e.Name == "min" || e.Name == "max") {
			return rowsBecause("it calls %s", e.Name)
		}
	case sqltext.Collate:
		return rowsBecause("it compares by COLLATE %s what it groups by", e.Name)
	case sqltext.Subquery, sqltext.Exists:
		if c.inWhere { // one that asks for more of a row than contacts have is an error of SQLite's
			return nil
		}
		return rowsBecause("it has a subquery outside WHERE")
	}
	return nil
}

// fixedFunctions are those whose value is made of their arguments alone.
var fixedFunctions = func() map[string]bool {
	all := make(map[string]bool)
	for _, name := range strings.Fields(`abs char coalesce concat concat_ws format glob hex if ifnull iif instr length like lower ltrim max min nullif octet_length
		printf quote replace round rtrim sign substr substring trim typeof unhex unicode upper date time datetime julianday strftime unixepoch
		cidr_match is_private ip_int ip_text ip_plain cidr_start port_name ago ns`) {
		all[name] = true
	}
	return all
}()

// isAggregate reports whether an expression is a call of an aggregate function.
func isAggregate(e *sqltext.Expr) bool {
	if e.Op != sqltext.Call {
		return false
	}
	switch e.Name {
	case "count", "sum", "total", "avg", "group_concat", "string_agg", "median":
		return true
	case "min", "max":
		return len(e.Args) == 1
	}
	return e.Distinct || e.Filter != nil
}

func hasAggregate(e *sqltext.Expr) (has bool) {
	e.Walk(func(e *sqltext.Expr) bool { has = has || isAggregate(e); return !has })
	return has
}

func hasOr(e *sqltext.Expr) (has bool) {
	e.Walk(func(e *sqltext.Expr) bool { has = has || e.Op == sqltext.Or; return !has })
	return has
}

// isCount reports whether an expression is an integer or NULL whatever the row is: a condition, a number, or a CASE of them.
func isCount(sql string, e *sqltext.Expr) bool {
	switch e.Op {
	case sqltext.And, sqltext.Or, sqltext.Not, sqltext.Compare, sqltext.Between, sqltext.In, sqltext.Like, sqltext.IsNull:
		return true
	case sqltext.Literal:
		return strings.EqualFold(sql[e.From:e.To], "null") || strings.Trim(sql[e.From:e.To], "0123456789") == "" && e.To-e.From < 10
	case sqltext.Case:
		values := e.Args
		if e.Name == "base" {
			values = values[1:]
		}
		for i, v := range values {
			if (i%2 == 1 || i == len(values)-1) && !isCount(sql, v) {
				return false
			}
		}
		return true
	}
	return false
}

func isComparison(e *sqltext.Expr) bool {
	return e.Op == sqltext.Compare || e.Op == sqltext.Between && !e.Negated
}

// withoutCollate returns a condition as it is without COLLATE, which does no harm in WHERE.
func withoutCollate(e *sqltext.Expr) *sqltext.Expr {
	if e.Op == sqltext.Collate {
		return withoutCollate(e.Args[0])
	}
	plain := *e
	plain.Args = nil
	for _, arg := range e.Args {
		plain.Args = append(plain.Args, withoutCollate(arg))
	}
	return &plain
}
