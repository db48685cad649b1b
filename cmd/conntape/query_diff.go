package main

import (
	"errors"
	"strconv"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

// addAgainst adds --against to a command that compares two windows, to compare two tapes.
func (h *host) addAgainst(command *cli.Command) {
	command.Flags = append([]cli.Flag{&cli.StringFlag{Name: "against", Usage: "`PATH` compare with another tape; --base-since and --base-until are its window"}}, command.Flags...)
	windows := command.Action
	command.Action = func(c *cli.Context) error {
		if !c.IsSet("against") {
			return windows(c)
		}
		return h.diffTapes(c)
	}
}

// diffTapes compares a tape with another one.
func (h *host) diffTapes(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	filter, err := readFilter(c, report.Connections)
	if err != nil {
		return err
	}
	q, timeout, err := h.readQuestion(c)
	if err != nil {
		return err
	}
	base, err := input.Clock{Now: h.now(), Zone: q.zone}.ParseWindow(c.String("base-since"), c.String("base-until"))
	if err != nil {
		return err
	}
	factor, err := strconv.ParseInt(c.String("factor"), 10, 64)
	if err != nil || factor < 0 {
		return usagef("give a whole number, such as 10", "cannot read factor %q", c.String("factor"))
	}
	other, err := store.OpenTapeContext(c.Context, c.String("against"))
	if err != nil {
		return err
	}
	defer other.Close()
	covered, err := other.Coverage()
	if err != nil {
		return err
	}
	q.whole = true // Compare applies both windows itself
	result, err := h.answerWith(c.Context, q, func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		comparison := report.Comparison{Factor: factor, All: c.Bool("all"), Filter: filter, Limit: c.Int64("limit"), Timeout: timeout}
		result, err := report.Compare(c.Context, report.Compared{Tape: tape, Window: q.window}, report.Compared{Tape: other, Window: base}, comparison, out)
		return result, noDamage(other, err)
	})
	covered.LeftOut = other.LeftOut() // some may have been removed during reading
	if err == nil && store.AnyLost(covered.LeftOut) {
		err = errDamaged
	}
	if (err == nil || errors.Is(err, errCut) || errors.Is(err, errDamaged)) && !q.quiet {
		for _, line := range coverage.New(covered, base, q.zone).Lines(result.Rows > 0) {
			note(h.stderr, "the other tape: "+line)
		}
	}
	return err
}
