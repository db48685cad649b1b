package main

import (
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/conntape/conntape/query/input"
	"github.com/urfave/cli/v2"
)

func (h *host) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what completes commands and flags in a shell",
		ArgsUsage: "SHELL",
		Description: `SHELL is bash, zsh or fish. The packages have it installed.

Examples:
  source <(conntape completion bash)
  conntape completion fish > ~/.config/fish/completions/conntape.fish`,
		Action: h.printCompletion,
	}
}

// completions are the known shells.
func completions() map[string]func([]completed) string {
	return map[string]func([]completed) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
}

func (h *host) printCompletion(c *cli.Context) error {
	names := []string{"bash", "zsh", "fish"}
	if c.NArg() != 1 {
		return usagef("choose from: "+strings.Join(names, ", "), "completion takes one shell, and was given %d words", c.NArg())
	}
	write, ok := completions()[c.Args().First()]
	if !ok {
		hint := "choose from: " + strings.Join(names, ", ")
		if near := input.Nearest(c.Args().First(), names); near != "" {
			hint = "did you mean " + near + "?"
		}
		return usagef(hint, "unknown shell %q", c.Args().First())
	}
	_, err := io.WriteString(h.stdout, "# Made by conntape completion; do not edit.\n"+write(completedCommands(c.App)))
	return err
}

// completed has the words that may follow a command.
type completed struct {
	path     string // "": the program itself; else "query who"
	commands []completedWord
	flags    []completedFlag
}

// completedWord is a word and its meaning, in letters, digits and blanks only.
type completedWord struct{ word, means string }

type completedFlag struct {
	completedWord
	short   string   // one letter; "": none
	takes   bool     // a value
	choices []string // allowed values; nil: any
	file    bool     // the value is a file
}

// completedCommands returns every command, beginning with the program.
func completedCommands(app *cli.App) []completed {
	all := []completed{{commands: completedWords(app.Commands)}}
	var add func(above string, commands []*cli.Command)
	add = func(above string, commands []*cli.Command) {
		for _, command := range commands {
			path := strings.TrimSpace(above + " " + command.Name)
			all = append(all, completed{path, completedWords(command.Subcommands), completedFlags(command)})
			add(path, command.Subcommands)
		}
	}
	add("", app.Commands)
	for i := range all {
		all[i].flags = append(all[i].flags, completedFlag{completedWord{"config", "configuration file"}, "", true, nil, true},
			completedFlag{completedWord{"help", "explain"}, "h", false, nil, false})
	}
	return all
}

func completedWords(commands []*cli.Command) []completedWord {
	var words []completedWord
	for _, command := range commands {
		words = append(words, completedWord{command.Name, plainWords(command.Usage)})
	}
	return words
}

func completedFlags(command *cli.Command) []completedFlag {
	var flags []completedFlag
	for _, flag := range command.Flags {
		_, isBool := flag.(*cli.BoolFlag)
		f := completedFlag{takes: !isBool}
		for _, name := range flag.Names() {
			if len(name) == 1 {
				f.short = name
			} else if f.word == "" {
				f.word = name
			}
		}
		doc, ok := flag.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		value, usage := placeholder(doc.GetUsage())
		f.means = plainWords(usage)
		f.file = value == "PATH" || value == "FILE"
		f.choices = flagChoices(f.word, usage)
		flags = append(flags, f)
	}
	return flags
}

var formatChoices = regexp.MustCompile(`^output format: ([a-z, ]+)$`)

// flagChoices returns the allowed values of a flag, nil for any.
func flagChoices(name, usage string) []string {
	switch name {
	case "format":
		if names := formatChoices.FindStringSubmatch(usage); names != nil {
			return strings.Split(names[1], ", ")
		}
	case "backend":
		return backendNames()
	case "events":
		return eventNames()
	case "reserve":
		return []string{"auto", "none"}
	}
	return nil
}

// plainWords returns the first sentence of a usage text without characters special to a shell.
func plainWords(usage string) string {
	usage, _, _ = strings.Cut(usage, ":")
	usage, _, _ = strings.Cut(usage, ";")
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == ',' || r == '-' {
			return r
		}
		return ' '
	}, usage)), " ")
}

// paths returns all commands as alternatives of a case in sh.
func paths(all []completed) string {
	var list []string
	for _, c := range all[1:] {
		list = append(list, "'"+c.path+"'")
	}
	return strings.Join(list, "|")
}

// valueFlags returns, as alternatives of a case in sh, the flags with a file as value and those with another value.
func valueFlags(all []completed) (files, others string) {
	var file, other []string
	for _, c := range all {
		for _, f := range c.flags {
			if f.takes && f.file {
				file = append(file, "--"+f.word)
			} else if f.takes {
				if other = append(other, "--"+f.word); f.short != "" {
					other = append(other, "-"+f.short)
				}
			}
		}
	}
	slices.Sort(file)
	slices.Sort(other)
	return strings.Join(slices.Compact(file), "|"), strings.Join(slices.Compact(other), "|")
}
