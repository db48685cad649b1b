package segment

import (
	"slices"
	"strings"
	"sync"

	"github.com/conntape/conntape/migrations"
)

// The public schema is five views. Their columns are read from the text of the migrations, which has a column a line, or
// ends one so: SQLite would take 10 ms to tell them.

// Views are the public schema.
var Views = []string{"connections", "processes", "endpoints", "gaps", "segments"}

// ViewColumn is a column of a public view.
type ViewColumn struct {
	Name string
	Type string // INTEGER, TEXT or BLOB if it is the column of a table; "" if it is an expression
	SQL  string // over the tables of a segment, as the view names them
}

// ViewColumns returns the columns of a public view, in order; nil if there is none of that name. They are not to be changed.
func ViewColumns(view string) []ViewColumn {
	known, _ := viewColumns.LoadOrStore(view, sync.OnceValue(func() []ViewColumn { return readColumns(view) }))
	return known.(func() []ViewColumn)()
}

// viewColumns are the columns that were asked for in this process, by view.
var viewColumns sync.Map

// readColumns reads the columns of a view from its text.
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

// typeOf returns the type of an expression: of one that is a column, or (SELECT column FROM table …), that of the column.
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
	for line := range strings.Lines(schema[words[at-1]]) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == column {
			return strings.TrimRight(words[1], ",")
		}
	}
	return ""
}
