package query

import (
	"strings"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/report"
)

// List writes a row for each canned query: name, parameters with defaults, arguments in capitals, and purpose.
func List(library []*report.Canned, out format.RowWriter) error {
	if err := out.Begin([]string{"name", "parameters", "purpose"}); err != nil {
		return err
	}
	for _, c := range library {
		var params []string
		for _, p := range c.Params {
			switch {
			case p.Argument:
				params = append(params, strings.ToUpper(p.Name))
			case p.Type == "flag":
				params = append(params, p.Flag())
			default:
				params = append(params, p.Flag()+"="+p.Default)
			}
		}
		row := make([]format.Value, 0, 3)
		for _, text := range []string{c.Name, strings.Join(params, " "), c.Purpose} {
			row = append(row, format.Value{Kind: format.Text, Bytes: []byte(text)})
		}
		if err := out.Row(row); err != nil {
			return err
		}
	}
	return out.End("")
}
