package segment

import (
	"slices"
	"strings"
	"sync"

	"github.com/conntape/conntape/migrations"
)

// The public schema is these views. Their columns are parsed from the migrations, which have one column per line: SQLite
// would take 10 ms.

// Views are the public schema.
var Views = []string{"connections", "processes", "endpoints", "gaps", "segments", "inbound", "listeners", "sockets_opened", "lookups", "programs"}

// ViewColumn is a column of a public view.
type ViewColumn struct {
	Name string
	Type string // INTEGER, TEXT or BLOB of a table's column; "" for an expression
	SQL  string // expression over a segment's tables, with the view's aliases
}

// ViewColumns returns the columns of a public view, in order; nil for an unknown view. Do not change them.
func ViewColumns(view string) []ViewColumn {
	known, _ := viewColumns.LoadOrStore(view, sync.OnceValue(func() []ViewColumn { return readColumns(view) }))
	return known.(func() []ViewColumn)()
}

// ViewQuery returns the text of a public view: a SELECT over the tables of a segment.
func ViewQuery(view string) string {
	schema, _ := ExpectedSchema(migrations.Version)
	_, query, _ := strings.Cut(schema[view], " AS\n")
	return query
}

// viewColumns caches columns by view.
var viewColumns sync.Map

// readColumns parses the columns of a view.
func readColumns(view string) []ViewColumn {
	schema, err := ExpectedSchema(migrations.Version)
	if err != nil {
		return nil
	}
	_, body, found := strings.Cut(schema[view], " AS\nSELECT\n")
	end := strings.LastIndex(body, "\nFROM ")
	if !found || end < 0 {
		return nil
	}
	var columns []ViewColumn
	sql := ""
	for line := range strings.Lines(body[:end]) {
		sql += line
		begin, name, ends := cutLast(strings.TrimRight(sql, ",\n"), " AS ")
		if ends && !strings.ContainsAny(name, " \n()'") {
			columns = append(columns, ViewColumn{Name: name, SQL: strings.TrimSpace(begin), Type: typeOf(schema, body[end:], strings.TrimSpace(begin))})
			sql = ""
		}
	}
	return columns
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// typeOf returns the type of an expression if it is a column, of a table or of one below a subquery, or (SELECT column FROM table …).
func typeOf(schema map[string]string, from, sql string) string {
	alias, column, _ := strings.Cut(sql, ".")
	words := strings.Fields(strings.ReplaceAll(from, ";", " "))
	at := slices.Index(words, alias)
	if selected := strings.Fields(strings.Trim(sql, "()")); len(selected) >= 4 && selected[0] == "SELECT" && selected[2] == "FROM" {
		words, at, column = selected, 4, selected[1][strings.LastIndex(selected[1], ".")+1:]
	}
	if at < 1 {
		return ""
	}
	table := words[at-1]
	if strings.HasSuffix(table, ")") {
		table = tableBelow(from, alias, column)
	}
	for line := range strings.Lines(schema[table]) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == column {
			return strings.TrimRight(words[1], ",")
		}
	}
	return ""
}

// tableBelow returns the table from which (SELECT …, column, … FROM table …) alias has a column as it is, "" if it computes it.
func tableBelow(from, alias, column string) string {
	inner, _, _ := strings.Cut(from, ") "+alias+"\n")
	list, rest, _ := strings.Cut(inner[strings.LastIndex(inner, "(SELECT ")+1:], "FROM ")
	words := strings.Fields(rest)
	for expression := range strings.SplitSeq(strings.TrimPrefix(list, "SELECT "), ",") {
		if strings.TrimSpace(expression) == column && len(words) > 0 {
			return words[0]
		}
	}
	return ""
}
