package main

import (
	"slices"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

func (h *host) exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write a window of the tape to a file, in any format",
		ArgsUsage: "[VIEW] --output FILE",
		Description: `VIEW is connections unless told otherwise; processes, endpoints, gaps and segments are the others. Every
column is written, the oldest row first. The format is told by --format, or by the name of the file:
.csv .tsv .json .jsonl .md .html .parquet .txt. The file appears when it is whole, readable by you alone; one
of that name is replaced. Every question has --output too, so a canned query or SQL is exported so.
--partition writes the sealed segments of the tape as Parquet, each once, for an engine over many hosts:
docs/fleet.md.

Examples:
  conntape export --since 2h --output window.csv
  conntape export processes --output processes.jsonl
  conntape export --partition /srv/fleet
  conntape query who 203.0.113.0/24 --output report.html
  conntape query sql "select exe, count(*) n from connections group by exe" --output programs.md`,
		Flags: append(filterFlags(answerFlags(limitFlag("`N` most rows to write; 0 for all", 0)), report.Connections),
			&cli.StringFlag{Name: "partition", Usage: "`DIR` write sealed segments that are not there yet, as host=…/date=…/part-*.parquet below this directory"}),
		Action: h.export,
	}
}

// exportOrder returns the order of each view that can be exported.
func exportOrder() map[string]string {
	return map[string]string{
		"connections": "time_ns", "processes": "segment, start_time, process_id", "endpoints": "segment, id",
		"gaps": "from_ns, id", "segments": "segment",
		"inbound": "time_ns, segment", "listeners": "time_ns, segment", "sockets_opened": "time_ns, segment",
		"lookups": "time_ns, segment", "programs": "segment, first_time, process_id",
	}
}

func (h *host) export(c *cli.Context) error {
	if c.IsSet("partition") {
		return h.exportPartitioned(c)
	}
	q, timeout, err := h.readQuestion(c)
	if err != nil {
		return err
	}
	const example = "try: conntape export --since 2h --output window.csv"
	if c.NArg() > 1 {
		return usagef(example, "export takes one view, but was given %d words", c.NArg())
	}
	view := "connections"
	if c.NArg() == 1 {
		view = c.Args().First()
	}
	order, ok := exportOrder()[view]
	if !ok {
		hint := "to export an answer: conntape query sql \"SELECT …\" --output FILE"
		var names []string
		for name := range exportOrder() {
			names = append(names, name)
		}
		slices.Sort(names)
		if near := input.Nearest(view, names); near != "" {
			hint = "did you mean " + near + "?"
		} else if !strings.Contains(view, " ") {
			hint = "there are " + strings.Join(names, ", ")
		}
		return usagef(hint, "there is no view %q", view)
	}
	if q.output == "" {
		return usagef(example, "export needs a file: --output FILE")
	}
	request := ask.Request{
		SQL: "SELECT * FROM " + view + " ORDER BY " + order, Limit: c.Int64("limit"), Timeout: timeout,
		Clock: input.Clock{Now: h.now(), Zone: q.zone},
	}
	filter, err := readFilter(c, report.Connections)
	switch {
	case err != nil:
		return err
	case view != "connections" && !filter.IsEmpty():
		return usagef("filter in SQL: conntape query sql \"SELECT * FROM "+view+" WHERE …\" --output FILE", "only connections can be filtered, not %s", view)
	case view != "connections":
		return h.answer(c, q, request)
	}
	q.identified = true
	_, err = h.answerWith(c.Context, q, func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		return report.Export(c.Context, tape, filter, request, out)
	})
	return err
}
