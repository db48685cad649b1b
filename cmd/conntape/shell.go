package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

func (h *host) shellCommand() *cli.Command {
	return &cli.Command{
		Name:  "shell",
		Usage: "ask one question after another, at a prompt",
		Description: `SQL ends with a semicolon and may be of several lines; words that begin with a dot are commands, and
.help lists them. Tab completes views, columns and functions, arrows and Ctrl-R go through what was typed
before. Ctrl-C stops a question, and Ctrl-D ends. When stdin is no terminal, questions are read from it
without a prompt, and the first that is wrong ends it.

Examples:
  conntape query shell
  conntape query shell --since 2h < questions.sql`,
		Flags:  shellFlags(),
		Action: h.shell,
	}
}

// shellLimit is how many rows an answer has on a terminal unless told otherwise.
const shellLimit = 1000

// shellFlags are the flags of every question, but for --output: there are many
// answers.
func shellFlags() []cli.Flag {
	flags := answerFlags(limitFlag("`N` most rows of an answer; 0 for all", shellLimit))
	flags = slices.DeleteFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "output") })
	return append(flags, &cli.StringFlag{Name: "history", Usage: "`FILE` history of what was typed; empty for none", Value: defaultHistory})
}

// defaultHistory is where the history is; XDG_STATE_HOME stands for ~/.local/state.
const defaultHistory = "~/.local/state/conntape/history"

// lineSource is where a shell has its lines from: a terminal, or something else.
type lineSource interface {
	// Line returns the next line, io.EOF after the last, or errAbandoned when what
	// was typed is to be forgotten.
	Line(prompt string) (string, error)
	// Keep remembers a question.
	Keep(question string)
	Close()
}

// errAbandoned is the error of a line that was left with Ctrl-C.
var errAbandoned = errors.New("abandoned")

// shellState is a shell and what was set in it.
type shellState struct {
	h       *host
	c       *cli.Context
	q       question
	since   string
	until   string
	limit   int64
	timeout time.Duration
	params  map[string]query.Value
	bail    bool // the first error ends it
	cut     bool // an answer was cut by its time limit
	damaged bool // an answer lacks what was damaged
}

func (h *host) shell(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	q, timeout, err := h.readQuestion(c)
	if err != nil {
		return err
	}
	s := &shellState{h: h, c: c, q: q, since: c.String("since"), until: c.String("until"), limit: c.Int64("limit"), timeout: timeout, params: make(map[string]query.Value)}
	lines, terminal, err := h.openLines(c.String("history"), query.NewCompleter(shellCommands()...))
	if err != nil {
		return err
	}
	defer lines.Close()
	s.bail = !terminal
	if !terminal && !c.IsSet("limit") {
		s.limit = 0
	}
	if terminal && !q.quiet {
		note(h.stderr, "SQL ends with a semicolon; .help tells more, Ctrl-D ends")
	}
	return s.loop(lines)
}

// loop reads and asks until the lines end.
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
			return s.end(s.failed(s.ask(typed.String()))) // a last one without a semicolon
		case err != nil:
			return fmt.Errorf("read question: %w", err)
		}
		if typed.Len() == 0 && strings.TrimSpace(line) == "" {
			continue
		}
		if word := strings.TrimSpace(line); typed.Len() == 0 && strings.HasPrefix(word, ".") {
			lines.Keep(word)
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

// end returns the error that the shell ends with: its own, or that an answer was not whole.
func (s *shellState) end(err error) error {
	switch {
	case err == nil && s.damaged:
		return errDamaged
	case err == nil && s.cut:
		return errCut
	}
	return err
}

// failed says what was wrong, and goes on where a person can type again. Nothing
// can be said any more when stdout is gone.
func (s *shellState) failed(err error) error {
	switch { // of interest to a script alone
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

// ask puts one question, which Ctrl-C stops.
func (s *shellState) ask(sql string) error {
	ctx, cancel := context.WithCancel(s.c.Context)
	defer cancel()
	defer s.h.onInterrupt(cancel)()
	clock := query.Clock{Now: s.h.now(), Zone: s.q.zone}
	window, err := clock.ParseWindow(s.since, s.until)
	if err != nil {
		return err
	}
	q := s.q
	q.asked, q.window = sql, window
	if width, terminal := s.h.width(); terminal {
		q.width = width // it may have changed
	}
	params := make(map[string]query.Value)
	for name, v := range s.params {
		if strings.Contains(sql, ":"+name) {
			params[name] = v
		}
	}
	request := query.Request{SQL: sql, Params: params, Limit: s.limit, Timeout: s.timeout, Clock: clock}
	_, err = s.h.answerWith(q, func(tape *store.Tape, out query.RowWriter) (query.Result, error) {
		return query.RunSQL(ctx, tape, request, out)
	})
	return err
}

// errQuit ends a shell.
var errQuit = errors.New("quit")

// shellCommands are the commands of the prompt.
func shellCommands() []string {
	return []string{".ask", ".format", ".help", ".limit", ".param", ".queries", ".quit", ".schema", ".since", ".tables", ".timeout", ".until"}
}

const shellHelp = `.ask NAME …        a canned query with its arguments and flags: .ask who 203.0.113.0/24
.format NAME       table, csv, tsv, json, jsonl, markdown, html
.limit N           rows of an answer at most; 0 for all
.param NAME VALUE  value of :NAME in SQL; without a value, forget it
.queries           the canned queries
.schema [VIEW]     every view, column and function
.since [TIME]      start of the window; without a time, none
.tables            the views
.timeout [TIME]    longest time for an answer; without a time, none
.until [TIME]      end of the window
.quit              end; so does Ctrl-D
`

// command runs a command of the prompt.
func (s *shellState) command(line string) error {
	name, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	var err error
	switch name {
	case ".quit", ".exit":
		return errQuit
	case ".help":
		_, err = io.WriteString(s.h.stdout, shellHelp)
	case ".tables":
		_, err = io.WriteString(s.h.stdout, "connections\nprocesses\nendpoints\ngaps\nsegments\n")
	case ".schema":
		err = s.run("schema", strings.Fields(rest))
	case ".queries":
		err = s.run("list", nil)
	case ".ask":
		err = s.askCanned(strings.Fields(rest))
	case ".format":
		var format string
		if format, err = query.ParseFormat(rest, query.FormatNames()...); err == nil {
			s.q.format = format
		}
	case ".since":
		err = s.setWindow(rest, s.until)
	case ".until":
		err = s.setWindow(s.since, rest)
	case ".limit":
		n, parseErr := strconv.ParseInt(rest, 10, 64)
		if parseErr != nil || n < 0 {
			return usagef("try .limit 100", ".limit takes a whole number, not %q", rest)
		}
		s.limit = n
	case ".timeout":
		s.timeout = 0
		if rest != "" {
			s.timeout, err = query.ParseDuration(rest)
		}
	case ".param":
		err = s.setParam(rest)
	default:
		hint := ".help lists the commands"
		if near := query.Nearest(name, shellCommands()); near != "" {
			hint = "did you mean " + near + "?"
		}
		err = usagef(hint, "there is no command %q", name)
	}
	return err
}

func (s *shellState) setWindow(since, until string) error {
	if _, err := (query.Clock{Now: s.h.now(), Zone: s.q.zone}).ParseWindow(since, until); err != nil {
		return err
	}
	s.since, s.until = since, until
	return nil
}

// setParam reads NAME VALUE or NAME=VALUE, or shows all when there is nothing.
func (s *shellState) setParam(text string) error {
	if text == "" {
		for _, name := range slices.Sorted(maps.Keys(s.params)) {
			fmt.Fprintln(s.h.stdout, query.Safe(name))
		}
		return nil
	}
	if !strings.Contains(text, "=") {
		name, value, ok := strings.Cut(text, " ")
		if !ok {
			delete(s.params, name)
			return nil
		}
		text = name + "=" + strings.TrimSpace(value)
	}
	name, value, err := query.ParseParam(text)
	if err == nil {
		s.params[name] = value
	}
	return err
}

// askCanned asks a canned query in the window and format of the shell.
func (s *shellState) askCanned(words []string) error {
	if len(words) == 0 || slices.Contains([]string{"shell", "sql"}, words[0]) {
		return usagef("try .ask recent; .queries lists them", ".ask needs the name of a canned query")
	}
	args := append(words, "--dir", s.q.dir, "--tz", s.c.String("tz"))
	for name, value := range map[string]string{"since": s.since, "until": s.until} {
		if value != "" && !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "--"+name) }) {
			args = append(args, "--"+name, value)
		}
	}
	if s.q.quiet {
		args = append(args, "--quiet")
	}
	return s.run(args[0], args[1:])
}

// run runs another command of "query", which Ctrl-C stops.
func (s *shellState) run(command string, args []string) error {
	ctx, cancel := context.WithCancel(s.c.Context)
	defer cancel()
	defer s.h.onInterrupt(cancel)()
	words := append([]string{"query", command}, args...)
	if !slices.ContainsFunc(args, func(w string) bool { return strings.HasPrefix(w, "--format") }) {
		words = append(words, "--format", s.q.format)
	}
	err := s.h.run(ctx, words)
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// plainLines are lines of something that is no terminal.
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

// Keep does nothing.
func (*plainLines) Keep(string) {}

// Close does nothing.
func (*plainLines) Close() {}
