package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

// mostProblems limits the problems of a list shown on stderr.
const mostProblems = 20

func (h *host) matchCommand() *cli.Command {
	var columns strings.Builder
	for _, c := range report.MatchColumns() {
		fmt.Fprintf(&columns, "  %s: %s\n", c.Name, c.Purpose)
	}
	return &cli.Command{
		Name:      "match",
		Usage:     "look for a list of indicators: addresses, ranges, ports, names, paths, hashes",
		ArgsUsage: "--indicators FILE",
		Description: `The list is plain, CSV of any form, STIX 2, MISP, OpenIOC, Suricata rules, Zeek's Intel, a hosts file or JSON,
told by its content; - is stdin. Indicators that were made harmless, such as hxxp://192.0.2[.]1, are read
too. A port beside an address belongs to that address. The exit code is 3 when something matches, 0 when
nothing does. Each line that is not understood is told on stderr, and so is how much was left out, and why.

Addresses, ranges and ports match what was connected to. Names match the names that an address was looked up
by, look-ups that no connect followed, the file name of a program or script, and names of hosts (and of
domains they are in) in arguments. Paths match programs, scripts and UNIX sockets. SHA-256, SHA-1 and MD5 match the files of programs and
scripts that were read; how many were not is told on stderr, and in the JSON's coverage. With a filter such as --exe, a program without a connection that passes it is left out. Columns:
` + columns.String() + `
Examples:
  conntape query match --indicators blocklist.txt
  conntape query match --indicators bundle.json --since 7d --format csv --output hits.csv
  conntape query match --indicators feed.csv --check`,
		Flags: append(answerFlags(limitFlag("`N` most rows to write; 0 for all", 0)), filterFlags([]cli.Flag{
			&cli.StringFlag{Name: "indicators", Usage: "`FILE` the list of indicators; - for stdin"},
			&cli.BoolFlag{Name: "check", Usage: "only read the list, and report each line that is not understood"},
			&cli.BoolFlag{Name: "all", Usage: "show each destination of a scan, port-0 UDP probes of name resolution and AF_UNSPEC disconnects too"}}, report.Connections)...),
		Action: h.match,
	}
}

func (h *host) match(c *cli.Context) error {
	const example = "try: conntape query match --indicators blocklist.txt"
	if c.NArg() > 0 {
		return usagef("did you mean --indicators "+c.Args().First()+"?", "conntape query match takes no argument, but was given %q", c.Args().First())
	}
	if c.String("indicators") == "" {
		return usagef(example, "conntape query match needs a list: --indicators FILE")
	}
	q, timeout, err := h.readQuestion(c)
	if err != nil {
		return err
	}
	filter, err := readFilter(c, report.Connections)
	if err != nil {
		return err
	}
	list, err := h.readIndicators(c.String("indicators"))
	if err != nil {
		return err
	}
	if c.Bool("check") {
		return h.checkIndicators(q, list)
	}
	h.tellIndicators(list, q.quiet)
	h.tellProblems(list, q.quiet)
	if list.Set.Len() == 0 {
		return &hintedError{errors.New("the list holds no indicator that is understood"), "conntape query match --check tells what is wrong with each line"}
	}
	q.hashes = list.Set.Count(indicator.Hash) > list.Set.OtherHashes()
	request := report.MatchRequest{
		Request: ask.Request{Limit: c.Int64("limit"), Timeout: timeout, Clock: input.Clock{Now: h.now(), Zone: q.zone}},
		Window:  q.window, Filter: filter, All: c.Bool("all"),
	}
	result, err := h.answerFolded(c.Context, q, !c.Bool("all"), func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		return report.Match(c.Context, tape, &list.Set, request, out)
	})
	if err == nil && result.Rows > 0 {
		return errFound
	}
	return err
}

// readIndicators reads the list of --indicators.
func (h *host) readIndicators(name string) (*indicator.Reading, error) {
	if name == "-" {
		return indicator.Read(h.stdin)
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("name the file with the list, or - for stdin", "there is no file %q", name)
	}
	if err != nil {
		return nil, fmt.Errorf("read indicators: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return nil, usagef("name the file with the list, or - for stdin", "%q is a directory", name)
	}
	return indicator.Read(file)
}

// tellIndicators writes a summary of the list to stderr.
func (h *host) tellIndicators(list *indicator.Reading, quiet bool) {
	if !quiet {
		var kinds []string
		for _, kind := range indicator.Kinds() {
			if n := list.Set.Count(kind); n > 0 {
				kinds = append(kinds, fmt.Sprintf("%s: %d", kind, n))
			}
		}
		line := fmt.Sprintf("indicators: %d, read as %s", list.Set.Len(), list.Format)
		if len(kinds) > 0 {
			line += " (" + strings.Join(kinds, ", ") + ")"
		}
		if list.Duplicates > 0 {
			line += fmt.Sprintf("; %d more came twice", list.Duplicates)
		}
		note(h.stderr, line)
		for _, why := range slices.Sorted(maps.Keys(list.LeftOut)) {
			note(h.stderr, fmt.Sprintf("indicators: %d left out: %s", list.LeftOut[why], why))
		}
		for _, what := range slices.Sorted(maps.Keys(list.Notes)) {
			note(h.stderr, fmt.Sprintf("indicators: %d: %s", list.Notes[what], what))
		}
	}
	if n := list.Set.OtherHashes(); n > 0 {
		note(h.stderr, fmt.Sprintf("indicators: %d hashes CANNOT be looked for: a tape holds SHA-256, SHA-1 and MD5 of programs", n))
	}
	if n := list.Set.Count(indicator.Name); n > 0 && !quiet {
		note(h.stderr, fmt.Sprintf("indicators: %d names are looked for in look-ups, programs and arguments: a tape has the DNS answers that the recorder saw", n))
	}
}

// tellProblems writes the problems of the list to stderr.
func (h *host) tellProblems(list *indicator.Reading, quiet bool) {
	for i, p := range list.Problems {
		if quiet || i == mostProblems {
			break
		}
		note(h.stderr, fmt.Sprintf("indicators: %d: %q: %s", p.Line, p.Text, p.Why))
	}
	if n := len(list.Problems); n > 0 {
		line := fmt.Sprintf("indicators: NOT understood: %d", n)
		if quiet || n > mostProblems {
			line += " (--check tells each of them)"
		}
		note(h.stderr, line)
	}
}

// checkIndicators writes a row for each problem of the list.
func (h *host) checkIndicators(q question, list *indicator.Reading) error {
	write := func(to io.Writer) error {
		out, err := format.NewRowWriter(q.format, to, format.Options{Raw: q.raw, Width: q.width})
		if err != nil {
			return err
		}
		if err := out.Begin([]string{"line", "text", "why"}); err != nil {
			return err
		}
		for _, p := range list.Problems {
			row := []format.Value{{Kind: format.Integer, Int: int64(p.Line)}, {Kind: format.Text, Bytes: []byte(p.Text)}, {Kind: format.Text, Bytes: []byte(p.Why)}}
			if err := out.Row(row); err != nil {
				return err
			}
		}
		return out.End("")
	}
	h.tellIndicators(list, q.quiet)
	if q.output != "" {
		return writeWhole(q.output, write)
	}
	return write(h.stdout)
}
