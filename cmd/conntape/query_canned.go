package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

// cannedCommand returns the command of a canned query. The query's file defines its flags and help.
func (h *host) cannedCommand(canned *report.Canned) *cli.Command {
	limit := limitFlag("`N` most rows to write; 0 for all", 0)
	var own []cli.Flag
	var arguments []string
	for _, p := range canned.Params {
		switch {
		case p.Argument:
			word := strings.ToUpper(p.Name)
			if p.Default != "" {
				word = "[" + word + "]"
			}
			arguments = append(arguments, word)
			if p.Choices() != nil {
				own = append(own, &cli.StringFlag{Name: p.Flag(), Usage: "`WORD` same as the argument: " + strings.Join(p.Choices(), ", ")})
			}
		case p.Name == report.LimitParam:
			standard, _ := strconv.ParseInt(p.Default, 10, 64) // a test holds the library to it
			limit = limitFlag("`N` "+p.Purpose, standard)
		case p.Type == "flag":
			own = append(own, &cli.BoolFlag{Name: p.Flag(), Usage: p.Purpose})
		default:
			own = append(own, &cli.StringFlag{Name: p.Flag(), Usage: "`" + placeholderOf(p) + "` " + p.Purpose, Value: p.Default})
		}
	}
	own = filterFlags(own, canned.FilteredView())
	return &cli.Command{
		Name:        canned.Name,
		Category:    "Canned queries",
		Usage:       strings.TrimSuffix(canned.Purpose, "."),
		ArgsUsage:   strings.Join(arguments, " "),
		Description: describeCanned(canned),
		Flags:       append(own, answerFlags(limit)...),
		Action:      func(c *cli.Context) error { return h.queryCanned(c, canned) },
	}
}

// placeholderOf returns the placeholder of a parameter's value.
func placeholderOf(p report.Param) string {
	switch {
	case p.Choices() != nil:
		return "WORD"
	case p.Type == "time":
		return "TIME"
	case p.Type == "integer":
		return "N"
	}
	return "TEXT"
}

// describeCanned returns the help text of a canned query.
func describeCanned(canned *report.Canned) string {
	var b strings.Builder
	for _, p := range canned.Params {
		if p.Argument {
			b.WriteString(strings.ToUpper(p.Name) + " is " + p.Purpose)
			if p.Default != "" {
				b.WriteString("; without it " + p.Default)
			}
			b.WriteString(".\n")
		}
	}
	b.WriteString("Columns:\n")
	for _, column := range canned.Columns {
		b.WriteString("  " + column.Name + ": " + column.Purpose + "\n")
	}
	for _, note := range canned.Notes {
		b.WriteString("\n" + note + "\n")
	}
	if canned.FalsePositives != "" {
		b.WriteString("\nFalse positives: " + canned.FalsePositives + "\n")
	}
	b.WriteString("\nExamples:\n")
	for _, example := range canned.Examples {
		b.WriteString("  " + example + "\n")
	}
	return b.String() + "\nconntape query show " + canned.Name + " prints its SQL."
}

func (h *host) queryCanned(c *cli.Context, canned *report.Canned) error {
	q, timeout, err := h.readQuestion(c)
	if err != nil {
		return err
	}
	given := make(map[string]string)
	arguments := c.Args().Slice()
	for _, p := range canned.Params {
		switch {
		case p.Argument && p.Choices() != nil && c.IsSet(p.Flag()):
			given[p.Name] = c.String(p.Flag())
		case p.Argument && len(arguments) == 0 && p.Default != "":
			given[p.Name] = p.Default
		case p.Argument && len(arguments) == 0:
			return usagef("try: "+canned.Examples[0], "%s needs %s", c.Command.HelpName, strings.ToUpper(p.Name))
		case p.Argument:
			given[p.Name], arguments = arguments[0], arguments[1:]
		case p.Name == report.LimitParam:
			given[p.Name] = strconv.FormatInt(c.Int64(p.Name), 10)
		case p.Type == "flag":
			given[p.Name] = strconv.FormatBool(c.Bool(p.Flag()))
		default:
			given[p.Name] = c.String(p.Flag())
		}
	}
	if len(arguments) > 0 {
		return usagef("try: "+canned.Examples[0], "%s takes no such argument: %q", c.Command.HelpName, arguments[0])
	}
	request := ask.Request{SQL: canned.Source, Timeout: timeout, Clock: input.Clock{Now: h.now(), Zone: q.zone}}
	q.whole = canned.OwnWindow
	if !canned.Has(report.LimitParam) {
		request.Limit = c.Int64("limit")
	}
	from, to := spanOf(c.Context, q.dir, canned)
	q.window = canned.WindowOf(q.window, request.Clock, to)
	if hasBuckets(canned) && !c.IsSet("seconds") {
		given["seconds"] = strconv.FormatInt(report.RoundBucket(q.window.Within(from, to)), 10)
	}
	filter, err := readFilter(c, canned.FilteredView())
	if err != nil {
		return err
	}
	if canned.Has("port") {
		filter.Port = "" // the query's own
	}
	if request.Params, err = canned.Bind(given, request.Clock, q.window); err != nil {
		return err
	}
	q.hashes = indicator.IsDigest(given["indicator"])
	_, err = h.answerFolded(c.Context, q, canned.FoldsScans && !c.Bool("all"), func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		return report.NewPlanned(tape, canned, request, q.window).Filtered(filter).Run(c.Context, out)
	})
	return err
}

// hasBuckets reports whether the query counts in buckets of a length that depends on the window.
func hasBuckets(canned *report.Canned) bool {
	return slices.ContainsFunc(canned.Params, func(p report.Param) bool { return p.Name == "seconds" && p.Default == "" })
}

// spanOf returns the recorded span of a tape if the query needs it: for a default window, the last day, or for buckets.
// It ignores errors: the query will report them.
func spanOf(ctx context.Context, dir string, canned *report.Canned) (from, to time.Time) {
	if !canned.OwnWindow && !hasBuckets(canned) {
		return from, to
	}
	tape, err := store.OpenTapeContext(ctx, dir)
	if err != nil {
		return from, to
	}
	defer tape.Close()
	for _, s := range tape.Segments() {
		if from.IsZero() || s.From.Before(from) {
			from = s.From
		}
		if s.To.After(to) {
			to = s.To
		}
	}
	return from, to
}
