package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

func (h *host) shellCommand() *cli.Command {
	return &cli.Command{
		Name:  "shell",
		Usage: "ask one question after another, at a prompt",
		Description: `SQL ends with a semicolon and may be of several lines. The name of a canned query with its arguments asks
it; words that begin with a dot are commands, and help lists them. Tab completes views, columns, functions and
queries; arrows and Ctrl-R go through what was typed before. Ctrl-C stops a question, and Ctrl-D ends. When stdin is no terminal, questions are read from it
without a prompt, and the first that is wrong ends it.

Examples:
  conntape query shell
  conntape query shell --since 2h < questions.sql`,
		Flags:  shellFlags(),
		Action: h.shell,
	}
}

// shellLimit is the default limit of an answer's rows on a terminal.
const shellLimit = 1000

// shellFlags are the flags of every question except --output, because a shell has many answers.
func shellFlags() []cli.Flag {
	flags := answerFlags(limitFlag("`N` most rows of an answer; 0 for all", shellLimit))
	flags = slices.DeleteFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "output") })
	return append(flags, &cli.StringFlag{Name: "history", Usage: "`FILE` history of what was typed; empty for none", Value: defaultHistory})
}

// defaultHistory is the history file; XDG_STATE_HOME replaces ~/.local/state.
const defaultHistory = "~/.local/state/conntape/history"

// lineSource is the input of a shell: a terminal or another stream.
type lineSource interface {
	// Line returns the next line, io.EOF after the last, or errAbandoned if the user discarded the question.
	Line(prompt string) (string, error)
	// Keep adds a question to the history.
	Keep(question string)
	Close()
}

// errAbandoned means that the user pressed Ctrl-C in a line.
var errAbandoned = errors.New("abandoned")

// shellState is a running shell and its settings.
type shellState struct {
	h       *host
	c       *cli.Context
	q       question
	since   string
	until   string
	limit   int64
	timeout time.Duration
	params  map[string]format.Value
	canned  []string // names of the canned queries
	output  string   // file for the next answer; "": stdout
	bail    bool     // end at the first error
	cut     bool     // --timeout cut an answer
	damaged bool     // an answer lacks damaged segments
}

func (h *host) shell(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	q, timeout, err := h.readQuestion(c)
	if err != nil {
		return err
	}
	library, err := report.Library()
	if err != nil {
		return err
	}
	h.told = make(map[string]bool)
	defer func() { h.told = nil }()
	s := &shellState{h: h, c: c, q: q, since: c.String("since"), until: c.String("until"), limit: c.Int64("limit"), timeout: timeout, params: make(map[string]format.Value)}
	for _, canned := range library {
		s.canned = append(s.canned, canned.Name)
	}
	lines, terminal, err := h.openLines(c.String("history"), s.completer(library))
	if err != nil {
		return err
	}
	defer lines.Close()
	s.bail = !terminal
	if !terminal && !c.IsSet("limit") {
		s.limit = 0
	}
	if terminal && !q.quiet {
		note(h.stderr, "SQL ends with a semicolon; help lists the commands, exit or Ctrl-D ends")
	}
	return s.loop(lines)
}

// loop reads and asks questions until the input ends.
func (s *shellState) loop(lines lineSource) error {
	var typed strings.Builder
	for {
		prompt := "conntape> "
		if typed.Len() > 0 {
			prompt = "     ...> "
		}
		line, err := lines.Line(prompt)
		switch {
		case errors.Is(err, errAbandoned):
			typed.Reset()
			continue
		case errors.Is(err, io.EOF):
			if strings.TrimSpace(typed.String()) == "" {
				return s.end(nil)
			}
			return s.end(s.failed(s.ask(typed.String()))) // the last question may lack the semicolon
		case err != nil:
			return fmt.Errorf("read question: %w", err)
		}
		if typed.Len() == 0 && strings.TrimSpace(line) == "" {
			continue
		}
		if word := asCommand(line, s.canned); typed.Len() == 0 && word != "" {
			lines.Keep(strings.TrimSpace(line))
			err = s.command(word)
			if errors.Is(err, errQuit) {
				return s.end(nil)
			}
		} else {
			typed.WriteString(line + "\n")
			if !query.IsComplete(typed.String()) {
				continue
			}
			question := strings.TrimSpace(typed.String())
			typed.Reset()
			lines.Keep(strings.Join(strings.Fields(question), " "))
			err = s.ask(question)
		}
		if err := s.failed(err); err != nil {
			return err
		}
	}
}

// end returns the shell's result: its own error, or that an answer was incomplete.
func (s *shellState) end(err error) error {
	switch {
	case err == nil && s.damaged:
		return errDamaged
	case err == nil && s.cut:
		return errCut
	}
	return err
}

// failed reports an error and continues on a terminal. If stdout is gone, it cannot report.
func (s *shellState) failed(err error) error {
	switch { // these only matter to a script
	case errors.Is(err, errCut):
		s.cut = s.bail
		return nil
	case errors.Is(err, errDamaged):
		s.damaged = s.bail
		return nil
	}
	if err == nil || s.bail || s.c.Context.Err() != nil {
		return err
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("stopped")
	}
	s.h.report(err)
	return nil
}

// ask asks one question. Ctrl-C stops it.
func (s *shellState) ask(sql string) error {
	ctx, cancel := context.WithCancel(s.c.Context)
	defer cancel()
	defer s.h.onInterrupt(cancel)()
	clock := input.Clock{Now: s.h.now(), Zone: s.q.zone}
	window, err := clock.ParseWindow(s.since, s.until)
	if err != nil {
		return err
	}
	q := s.q
	q.asked, q.window = sql, window
	if width, terminal := s.h.width(); terminal {
		q.width = width // the terminal may have been resized
	}
	if s.output != "" {
		q.output, q.width, q.paint = s.output, 0, false
		if form := formatOf(s.output); form != "" {
			q.format = form
		}
		s.output = ""
	}
	params := make(map[string]format.Value)
	for name, v := range s.params {
		if strings.Contains(sql, ":"+name) {
			params[name] = v
		}
	}
	request := ask.Request{SQL: sql, Params: params, Limit: s.limit, Timeout: s.timeout, Clock: clock}
	_, err = s.h.answerWith(ctx, q, func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		return table.RunSQL(ctx, tape, request, out)
	})
	return err
}

// plainLines reads lines from a stream that is no terminal.
type plainLines struct{ lines *bufio.Scanner }

// newPlainLines reads lines of up to mostSQL bytes.
func newPlainLines(r io.Reader) *plainLines {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), mostSQL)
	return &plainLines{lines}
}

// Line returns the next line.
func (p *plainLines) Line(string) (string, error) {
	if p.lines.Scan() {
		return p.lines.Text(), nil
	}
	if err := p.lines.Err(); err != nil {
		return "", err
	}
	return "", io.EOF
}

// Keep does nothing: there is no history.
func (*plainLines) Keep(string) {}

// Close does nothing.
func (*plainLines) Close() {}
