package query

import (
	"regexp"
	"slices"
	"strings"

	"github.com/conntape/conntape/docs"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
)

// SchemaRow documents one column of a view, or one SQL function.
type SchemaRow struct{ In, Name, Purpose string }

// schemaLine matches a table line of docs/schema.md that documents something: name in backquotes, and purpose.
var schemaLine = regexp.MustCompile("^\\| `([^`]+)` \\| (.+) \\|$")

// Schema returns the documentation of every column and function in docs/schema.md, in its order.
func Schema() []SchemaRow {
	var rows []SchemaRow
	in := ""
	for line := range strings.Lines(docs.Schema()) {
		line = strings.TrimRight(line, "\n")
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			in = heading
		}
		if m := schemaLine.FindStringSubmatch(line); m != nil {
			purpose := strings.NewReplacer("`", "", `\|`, "|").Replace(m[2])
			rows = append(rows, SchemaRow{in, m[1], purpose})
		}
	}
	return rows
}

// WriteSchema writes the schema, or one view of it, or "functions".
func WriteSchema(in string, out format.RowWriter) error {
	rows := Schema()
	if in != "" {
		names := append(ask.ViewNames(), "functions")
		if !slices.Contains(names, in) {
			hint := "there are " + strings.Join(names, ", ")
			if near := input.Nearest(in, names); near != "" {
				hint = "did you mean " + near + "?"
			}
			return input.Usagef(hint, "there is no view %q", in)
		}
		rows = slices.DeleteFunc(rows, func(r SchemaRow) bool { return r.In != in })
	}
	if err := out.Begin([]string{"in", "name", "purpose"}); err != nil {
		return err
	}
	for _, r := range rows {
		row := make([]format.Value, 0, 3)
		for _, text := range []string{r.In, r.Name, r.Purpose} {
			row = append(row, format.Value{Kind: format.Text, Bytes: []byte(text)})
		}
		if err := out.Row(row); err != nil {
			return err
		}
	}
	return out.End("")
}
