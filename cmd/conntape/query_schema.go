package main

import (
	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/query/format"
	"github.com/urfave/cli/v2"
)

func (h *host) schemaCommand() *cli.Command {
	return &cli.Command{
		Name:      "schema",
		Usage:     "tell every view, column and SQL function",
		ArgsUsage: "[VIEW | functions]",
		Description: `Without a name: all views, and the functions that SQL has here beside SQLite's own.

Examples:
  conntape query schema
  conntape query schema contacts
  conntape query schema functions --format csv`,
		Flags: append(rowFormatFlags(), rawFlag(), dirFlag("accepted as with every question; all tapes have the same schema")),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("try: conntape query schema connections", "conntape query schema takes one view, but was given %d", c.NArg())
			}
			form, width, err := h.readFormat(c)
			if err != nil {
				return err
			}
			out, err := format.NewRowWriter(form, h.stdout, format.Options{Raw: c.Bool("raw"), Width: width, Wrap: true})
			if err != nil {
				return err
			}
			return query.WriteSchema(c.Args().First(), out)
		},
	}
}
