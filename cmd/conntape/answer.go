package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

// question has the flags of a question other than its SQL.
type question struct {
	asked  string // as it was typed
	dir    string
	format string
	window input.Window
	whole  bool // do not push the window down to the views
	zone   *time.Location
	quiet  bool
	width  int
	raw    bool
	output string // file to write to, "" for stdout
	paint  format.Palette

	hashes     bool // it is about hashes: what has none is told
	identified bool // Parquet: each row says of which tape it is
}

// readQuestion reads answerFlags.
func (h *host) readQuestion(c *cli.Context) (question, time.Duration, error) {
	var q question
	var err error
	if q.dir, err = h.readDir(c); err != nil {
		return q, 0, err
	}
	if q.zone, err = h.readZone(c); err != nil {
		return q, 0, err
	}
	if q.window, err = h.readWindow(c, q.zone); err != nil {
		return q, 0, err
	}
	if q.format, q.width, err = h.readFormat(c); err != nil {
		return q, 0, err
	}
	q.paint = h.palette(q.width > 0)
	if err := h.readOutput(c, &q); err != nil {
		return q, 0, err
	}
	if _, terminal := h.width(); q.format == "parquet" && q.output == "" && terminal {
		return q, 0, usagef("write it to a file: --output answer.parquet", "Parquet is not for a terminal")
	}
	q.asked, q.quiet, q.raw = h.typed, c.Bool("quiet"), c.Bool("raw")
	timeout, err := readTimeout(c)
	return q, timeout, err
}

// readFormat reads --format, -t and the settings. The default is table on a terminal, else csv.
func (h *host) readFormat(c *cli.Context) (form string, width int, err error) {
	width, terminal := h.width()
	switch {
	case c.Bool("table") && c.IsSet("format"):
		return "", 0, usagef("leave out one of the two", "the format is given both with --table and with --format")
	case c.Bool("table"):
		form = "table"
	case c.IsSet("format"):
		form, err = format.Parse(c.String("format"), format.Names()...)
	case h.settings.get("format") != "":
		if form, err = format.Parse(h.settings.get("format"), format.Names()...); err != nil {
			err = usagef("set "+h.settings.from["format"].name+" to one of "+strings.Join(format.Names(), ", ")+", or unset it", "%v", err)
		}
	case terminal:
		form = "table"
	default:
		form = "csv"
	}
	return form, width, err
}

// answer asks the tape in SQL. It writes the answer to stdout or a file, and its coverage to stderr.
func (h *host) answer(c *cli.Context, q question, r ask.Request) error {
	_, err := h.answerWith(c.Context, q, func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		return ask.Run(c.Context, tape.Conn(), r, out)
	})
	return err
}

// asking puts a question to a tape and writes the rows of its answer.
type asking func(*store.Tape, format.RowWriter) (ask.Result, error)

// answerWith asks any kind of question and returns the result. If it finds damage, it starts again without the damaged
// segments, unless rows were shown already.
func (h *host) answerWith(ctx context.Context, q question, run asking) (ask.Result, error) {
	defer collectLate(answerMemory)()
	var result ask.Result
	err := leavingOut(func(damaged []store.LeftOut) (err error) {
		result, err = h.answerWithout(ctx, q, run, damaged)
		return err
	})
	return result, err
}

// answerWithout answers without some segments. It returns a *damageMet if it finds damage in others.
func (h *host) answerWithout(ctx context.Context, q question, run asking, without []store.LeftOut) (ask.Result, error) {
	var result ask.Result
	tape, err := store.OpenTapeContext(ctx, q.dir, without...)
	if err != nil {
		return result, err
	}
	defer tape.Close()
	covered, err := tape.Coverage()
	if err != nil {
		return result, findDamage(tape, err)
	}
	if !q.window.IsOpen() && !q.whole {
		tape.Bound(q.window.Since, q.window.Until)
	}
	told := coverage.New(covered, q.window, q.zone)
	told.Follow(tape.LeftOut)
	if q.hashes {
		if told.Unhashed, err = report.Unhashed(ctx, tape); err != nil {
			return result, findDamage(tape, err)
		}
	}
	write := func(to io.Writer) error {
		options := format.Options{Raw: q.raw, Width: q.width, Paint: q.paint, Coverage: told}
		switch q.format {
		case "html":
			options.Origin = h.origin(q, tape, covered)
		case "parquet":
			options.Identity, options.Identified = report.IdentityOf(tape), q.identified
		}
		out, err := format.NewRowWriter(q.format, to, options)
		if err != nil {
			return err
		}
		progress := h.startProgress(q.output == "" && q.width > 0)
		defer progress.stop()
		result, err = run(tape, progress.watch(format.InZone(out, q.zone)))
		return findDamage(tape, err)
	}
	if q.output == "" {
		err = writeHeld(h.stdout, write)
	} else {
		err = writeWhole(q.output, write)
	}
	if err != nil {
		return result, err
	}
	h.closing(q, told, result)
	if store.AnyLost(tape.LeftOut()) {
		return result, errDamaged
	}
	if result.OutOfTime() {
		return result, errCut
	}
	return result, nil
}

// answerFolded answers and, with fold, folds the rows of a scan into one.
func (h *host) answerFolded(ctx context.Context, q question, fold bool, run func(*store.Tape, format.RowWriter) (ask.Result, error)) (ask.Result, error) {
	if !fold {
		return h.answerWith(ctx, q, run)
	}
	var folding *format.Folding
	result, err := h.answerWith(ctx, q, func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		folding = format.NewFolding(out)
		result, err := run(tape, folding)
		result.Rows -= folding.Folded()
		return result, err
	})
	if folding != nil && folding.Folded() > 0 {
		note(h.stderr, fmt.Sprintf("%d rows of scans are folded into others; --all shows each", folding.Folded()))
	}
	return result, err
}

// closing writes the end of the answer and its coverage to stderr.
func (h *host) closing(q question, covered *coverage.Coverage, result ask.Result) {
	if result.Cut != "" {
		note(h.stderr, fmt.Sprintf("cut after %d rows: %s", result.Rows, result.Cut))
	}
	if result.Advice != "" && !q.quiet && (h.told == nil || !h.told[result.Advice]) {
		note(h.stderr, result.Advice)
		if h.told != nil {
			h.told[result.Advice] = true
		}
	}
	if q.quiet {
		for _, line := range covered.Missing() {
			note(h.stderr, line)
		}
		return
	}
	if q.output != "" {
		note(h.stderr, fmt.Sprintf("%s holds the answer as %s, rows: %d", q.output, q.format, result.Rows))
	}
	if result.Rows == 0 && result.Cut == "" {
		note(h.stderr, "no rows: nothing that was recorded matches")
	}
	if key := covered.Key(result.Rows > 0); h.told == nil || !h.told[key] {
		for _, line := range covered.Lines(result.Rows > 0) {
			note(h.stderr, line)
		}
		if h.told != nil {
			h.told[key] = true
		}
	}
}

// note writes a line to stderr. It ignores errors.
func note(w io.Writer, line string) { fmt.Fprintln(w, "conntape: "+oneLine(line)) }
