package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store/escape"
)

// errQuit ends a shell.
var errQuit = errors.New("quit")

// shellCommands are the commands of the prompt.
func shellCommands() []string {
	return []string{".ask", ".format", ".help", ".limit", ".output", ".param", ".queries", ".quit", ".schema", ".since", ".tables", ".timeout", ".until"}
}

const shellHelp = `SELECT … ;         SQL, of one line or several, up to a semicolon
NAME …             a canned query with its arguments and flags: who 203.0.113.0/24 --since 2h
.ask NAME …        the same
.format NAME       table, csv, tsv, json, jsonl, markdown, html
.limit N           rows of an answer at most; 0 for all
.output FILE       write the next answer to this file; its name tells the format
.param NAME VALUE  value of :NAME in SQL; without a value, forget it
.queries           the canned queries
.schema [VIEW]     every view, column and function
.since [TIME]      start of the window; without a time, none
.tables            the views
.timeout [TIME]    longest time for an answer; without a time, none
.until [TIME]      end of the window
.help, help        this
.quit, exit        end; so does Ctrl-D
`

// asCommand returns a line as a command of the prompt, "" if it is SQL. A command begins with a dot, is a word like quit
// or help, or is a canned query.
func asCommand(line string, canned []string) string {
	line = strings.TrimSpace(line)
	words := strings.Fields(strings.TrimRight(line, "; \t"))
	switch {
	case strings.HasPrefix(line, "."):
		return line
	case len(words) == 0:
		return ""
	case len(words) == 1 && slices.Contains([]string{"help", "?", `\?`, `\h`}, strings.ToLower(words[0])):
		return ".help"
	case len(words) == 1 && slices.Contains([]string{"exit", "quit", "q", `\q`}, strings.ToLower(words[0])):
		return ".quit"
	case slices.Contains(append([]string{"match"}, canned...), words[0]):
		return ".ask " + strings.TrimRight(line, "; \t")
	}
	return ""
}

// completer completes SQL and commands with their arguments.
func (s *shellState) completer(library []*report.Canned) *query.Completer {
	c := query.NewCompleter(append(shellCommands(), s.canned...)...)
	c.After(".ask", s.canned)
	c.After(".format", format.Names())
	c.After(".schema", append(ask.ViewNames(), "functions"))
	for _, canned := range library {
		var flags []string
		for _, flag := range s.h.cannedCommand(canned).Flags {
			flags = append(flags, "--"+flag.Names()[0])
		}
		for _, p := range canned.Params {
			if p.Argument {
				flags = append(flags, p.Choices()...)
			}
		}
		c.After(".ask "+canned.Name, flags)
		c.After(canned.Name, flags)
	}
	return c
}

// command runs a command of the prompt.
func (s *shellState) command(line string) error {
	name, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch name {
	case ".since", ".until", ".output", ".timeout":
		rest = strings.Join(splitWords(rest), " ") // quotes are optional
	}
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
		err = s.askCanned(splitWords(rest))
	case ".output":
		if rest != "" && rest != "stdout" {
			err = checkOutput(rest, s.q.dir)
		}
		if s.output = rest; err != nil || rest == "stdout" {
			s.output = ""
		}
	case ".format":
		var form string
		if form, err = format.Parse(rest, format.Names()...); err == nil {
			s.q.format = form
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
			s.timeout, err = input.ParseDuration(rest)
		}
	case ".param":
		err = s.setParam(rest)
	default:
		hint := ".help lists the commands"
		if near := input.Nearest(name, shellCommands()); near != "" {
			hint = "did you mean " + near + "?"
		}
		err = usagef(hint, "there is no command %q", name)
	}
	return err
}

func (s *shellState) setWindow(since, until string) error {
	if _, err := (input.Clock{Now: s.h.now(), Zone: s.q.zone}).ParseWindow(since, until); err != nil {
		return err
	}
	s.since, s.until = since, until
	clear(s.h.told) // their coverage was of the old window
	return nil
}

// setParam reads NAME VALUE or NAME=VALUE, or lists all parameters if text is empty.
func (s *shellState) setParam(text string) error {
	if text == "" {
		for _, name := range slices.Sorted(maps.Keys(s.params)) {
			fmt.Fprintln(s.h.stdout, escape.Safe(name))
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
	name, value, err := ask.ParseParam(text)
	if err == nil {
		s.params[name] = value
	}
	return err
}

// askCanned asks a canned query with the shell's window and format.
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
	if s.output != "" {
		args = append(args, "--output", s.output)
		if formatOf(s.output) == "" {
			args = append(args, "--format", s.q.format)
		}
		s.output = ""
	}
	return s.run(args[0], args[1:])
}

// run runs another command of query. Ctrl-C stops it.
func (s *shellState) run(command string, args []string) error {
	ctx, cancel := context.WithCancel(s.c.Context)
	defer cancel()
	defer s.h.onInterrupt(cancel)()
	words := append([]string{"query", command}, args...)
	if !slices.ContainsFunc(args, func(w string) bool {
		return w == "-t" || w == "--table" || strings.HasPrefix(w, "--format") || strings.HasPrefix(w, "--output") || w == "-o"
	}) {
		words = append(words, "--format", s.q.format)
	}
	err := s.h.run(ctx, words)
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// splitWords splits a line at blanks outside quotes, as a shell does.
func splitWords(line string) []string {
	var words []string
	var word strings.Builder
	var quote rune
	begun := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, begun = r, true
		case quote == 0 && r == ' ':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}
