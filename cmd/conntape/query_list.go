package main

import (
	"io"
	"strings"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/urfave/cli/v2"
)

func (h *host) listCommand(library []*report.Canned) *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list the canned queries",
		Flags: append(rowFormatFlags(), rawFlag()),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			form, width, err := h.readFormat(c)
			if err != nil {
				return err
			}
			out, err := format.NewRowWriter(form, h.stdout, format.Options{Raw: c.Bool("raw"), Width: width, Wrap: true})
			if err != nil {
				return err
			}
			return query.List(library, out)
		},
	}
}

func (h *host) showCommand(library []*report.Canned) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "print the SQL of a canned query, to read, copy and change",
		ArgsUsage: "NAME",
		Description: `The SQL begins with comments that say what it is for, its parameters and its columns. Example:
  conntape query show recent > mine.sql
  conntape query sql --file mine.sql --param limit=10`,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("try: conntape query show recent", "conntape query show takes the name of one query, but was given %d", c.NArg())
			}
			names := make([]string, 0, len(library))
			for _, canned := range library {
				if canned.Name == c.Args().First() {
					_, err := io.WriteString(h.stdout, canned.Source)
					return err
				}
				names = append(names, canned.Name)
			}
			hint := "choose from: " + strings.Join(names, ", ")
			if near := input.Nearest(c.Args().First(), names); near != "" {
				hint = "did you mean " + near + "?"
			}
			return usagef(hint, "there is no canned query %q", c.Args().First())
		},
	}
}
