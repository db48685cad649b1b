package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/input"
	"github.com/urfave/cli/v2"
)

// urfave/cli v2 takes everything after the first argument as arguments, so it silently ignores flags there. So parseArgs
// reads the command line first, with flags anywhere, and orders it for cli. It also reports all errors, so cli only sees
// valid command lines.

// call is a parsed command line.
type call struct {
	all   []*cli.Command // all commands
	path  []*cli.Command // the command with its parents
	flags []flagGiven
	args  []string
	help  bool

	config string // value of --config, which every command has
}

type flagGiven struct{ name, value string }

// flagForm matches a flag, but not SQL that begins with a comment or a negative duration.
var flagForm = regexp.MustCompile(`(?s)^--?([A-Za-z][A-Za-z0-9-]*)(?:=(.*))?$`)

// parseArgs parses a command line. Flags may stand anywhere before "--".
func parseArgs(commands []*cli.Command, argv []string) (*call, error) {
	c := &call{all: commands}
	values := flagValues(commands)
	values["config"], values["json"] = true, false
	var unknown string
	for i := 0; i < len(argv); i++ {
		word := argv[i]
		if word == "--" {
			c.args = append(c.args, argv[i+1:]...)
			break
		}
		flag := flagForm.FindStringSubmatch(word)
		if flag == nil {
			if err := c.word(commands, word); err != nil {
				return nil, err
			}
			continue
		}
		name := flag[1]
		takesValue, known := values[name]
		switch {
		case name == "help" || name == "h":
			c.help = true
			continue
		case name == "version" && len(c.path) == 0:
			if err := c.word(commands, name); err != nil {
				return nil, err
			}
			continue
		case !known:
			if unknown == "" {
				unknown = name
			}
			continue
		}
		value := flag[2]
		if !strings.Contains(word, "=") {
			switch {
			case !takesValue:
				value = "true"
			case i+1 == len(argv) || isKnownFlag(argv[i+1], values):
				return nil, usagef(c.helpHint(), "flag %s needs a value", dashed(name))
			default:
				i++
				value = argv[i]
			}
		}
		if name == "config" {
			if c.config = value; value == "" {
				return nil, usagef("/dev/null is a file without settings", "--config is empty")
			}
			continue
		}
		c.flags = append(c.flags, flagGiven{name, value})
	}
	if unknown != "" {
		return nil, c.unknownFlag(unknown)
	}
	return c, c.check()
}

// word adds a word that is no flag: a command or an argument.
func (c *call) word(commands []*cli.Command, word string) error {
	if len(c.path) > 0 {
		commands = c.path[len(c.path)-1].Subcommands
	}
	if len(commands) == 0 {
		c.args = append(c.args, word)
		return nil
	}
	for _, command := range commands {
		if command.HasName(word) {
			c.path = append(c.path, command)
			return nil
		}
	}
	if word == "help" {
		c.help = true
		return nil
	}
	if len(c.path) == 0 && c.questionAlone(commands, word) {
		return nil
	}
	return c.unknownCommand(commands, word)
}

// unknownCommand returns the error for a word that names no command.
func (c *call) unknownCommand(commands []*cli.Command, word string) error {
	names := commandNames(commands)
	hint := "commands are " + strings.Join(names, ", ")
	switch first, _, _ := strings.Cut(strings.ToLower(word), " "); {
	case slices.Contains([]string{"select", "with", "explain"}, first):
		hint = `SQL stands in quotes after query sql: conntape query sql "select …"`
	case len(c.path) == 0 && strings.HasPrefix(word, "query-"):
		hint = "did you mean: conntape query " + strings.TrimPrefix(word, "query-") + "?"
	case len(c.path) > 0 && slices.Contains(commandNames(c.all), word):
		hint = "it is a command of its own: conntape " + word
	}
	for _, command := range commands {
		if near := input.Nearest(word, commandNames(command.Subcommands)); near != "" {
			hint = "did you mean: " + c.name(command.Name, near) + "?"
		}
	}
	if near := input.Nearest(word, names); near != "" {
		hint = "did you mean: " + c.name(near) + "?"
	}
	return usagef(hint, "unknown command %q", c.below(word))
}

// questionAlone accepts a canned query, or another command of query, without the word query before it.
func (c *call) questionAlone(commands []*cli.Command, word string) bool {
	for _, command := range commands {
		for _, question := range command.Subcommands {
			if question.HasName(word) {
				c.path = append(c.path, command, question)
				return true
			}
		}
	}
	return false
}

// check refuses flags and arguments that the command does not have.
func (c *call) check() error {
	if c.help || c.bare() {
		return nil
	}
	if len(c.path) == 0 {
		return usagef("conntape --help lists the commands", "no command given")
	}
	command := c.path[len(c.path)-1]
	if len(command.Subcommands) > 0 {
		return usagef("choose from: "+strings.Join(commandNames(command.Subcommands), ", ")+"; "+c.name("--help")+" explains them",
			"%s needs a question", c.name())
	}
	for _, word := range c.args {
		if strings.HasPrefix(word, "–") || strings.HasPrefix(word, "—") {
			return usagef("type --"+strings.TrimLeft(word, "–—"), "%q begins with a long dash, and so is no flag", word)
		}
	}
	for i, given := range c.flags {
		if given.name == "json" && findFlag(command.Flags, "json") == nil && findFlag(command.Flags, "format") != nil {
			given = flagGiven{"format", "json"}
			c.flags[i] = given
		}
		flag := findFlag(command.Flags, given.name)
		if flag == nil {
			return c.unknownFlag(given.name)
		}
		if err := checkValue(flag, given); err != nil {
			return err
		}
	}
	return nil
}

// bare reports whether there is no command, flag or argument.
func (c *call) bare() bool {
	return len(c.path) == 0 && len(c.flags) == 0 && len(c.args) == 0 && c.config == "" && !c.help
}

// unknownFlag returns the error for a flag that the command does not have.
func (c *call) unknownFlag(name string) error {
	names := []string{"config"}
	if len(c.path) > 0 {
		for _, flag := range c.path[len(c.path)-1].Flags {
			names = append(names, flag.Names()...)
		}
	}
	hint := c.helpHint()
	meant := meantFlag(name)
	switch near := input.Nearest(name, names); {
	case len(c.path) > 0 && slices.Contains(argumentNames(c.path[len(c.path)-1]), strings.ToUpper(name)):
		hint = "it is an argument, given without a flag: " + c.name(c.path[len(c.path)-1].ArgsUsage)
	case (name == "f" || name == "follow") && c.name() == "conntape tail":
		hint = "it follows by itself: leave " + dashed(name) + " out"
	case slices.Contains(names, meant) && meant == "format":
		hint = "did you mean --format " + name + "?"
	case slices.Contains(names, meant):
		hint = "did you mean " + dashed(meant) + "?"
	case len(name) > 1 && strings.Trim(name[1:], "0123456789") == "" && slices.Contains(names, name[:1]):
		return usagef("put a blank between them: -"+name[:1]+" "+name[1:], "%s has no flag -%s", c.name(), name)
	case len(name) > 1 && near != "":
		hint = "did you mean " + dashed(near) + "?"
	}
	return usagef(hint, "%s has no flag %s", c.name(), dashed(name))
}

// meantFlag returns the flag that other programs call by this name, "" for none.
func meantFlag(name string) string {
	switch name {
	case "from", "start", "after", "begin", "last":
		return "since"
	case "end", "before", "stop":
		return "until"
	case "count", "max", "head", "num", "top":
		return "limit"
	case "json", "jsonl", "csv", "tsv", "html", "markdown", "text":
		return "format"
	case "program", "process", "command", "comm":
		return "exe"
	case "remote", "address", "ip", "dst", "dest", "destination":
		return "to"
	case "silent":
		return "quiet"
	case "path", "db", "tape":
		return "dir"
	}
	return ""
}

// argumentNames returns the placeholders of a command's arguments.
func argumentNames(command *cli.Command) []string {
	return strings.FieldsFunc(command.ArgsUsage, func(r rune) bool { return r == ' ' || r == '[' || r == ']' })
}

// ordered returns the words in cli's order.
func (c *call) ordered() []string {
	var words []string
	for _, command := range c.path {
		words = append(words, command.Name)
	}
	for _, flag := range c.flags {
		words = append(words, dashed(flag.name)+"="+flag.value)
	}
	return append(append(words, "--"), c.args...)
}

// name returns the command line of the command, with more words.
func (c *call) name(more ...string) string {
	words := []string{"conntape"}
	for _, command := range c.path {
		words = append(words, command.Name)
	}
	return strings.Join(append(words, more...), " ")
}

// below returns the command and a word, without the program's name.
func (c *call) below(word string) string { return strings.TrimPrefix(c.name(word), "conntape ") }

func (c *call) helpHint() string { return c.name("--help") + " lists the flags" }

// checkValue refuses a value of the wrong type.
func checkValue(flag cli.Flag, given flagGiven) error {
	switch flag.(type) {
	case *cli.BoolFlag:
		if _, err := strconv.ParseBool(given.value); err != nil {
			return usagef("leave the value out", "flag %s takes no value, but was given %q", dashed(given.name), given.value)
		}
	case *cli.Int64Flag:
		n, err := strconv.ParseInt(given.value, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrRange):
			return usagef("the largest is 9223372036854775807", "%s %s is too large", dashed(given.name), given.value)
		case err != nil || n < 0:
			return usagef(fmt.Sprintf("give a number without unit or sign: %s 100", dashed(given.name)), "%s takes a whole number, not %q", dashed(given.name), given.value)
		}
	}
	return nil
}

// flagValues returns every flag and whether it takes a value. A flag has the same type in all commands; a test checks
// that.
func flagValues(commands []*cli.Command) map[string]bool {
	values := make(map[string]bool)
	for _, command := range commands {
		for _, flag := range command.Flags {
			_, isBool := flag.(*cli.BoolFlag)
			for _, name := range flag.Names() {
				values[name] = !isBool
			}
		}
		for name, takes := range flagValues(command.Subcommands) {
			values[name] = takes
		}
	}
	return values
}

func isKnownFlag(word string, values map[string]bool) bool {
	flag := flagForm.FindStringSubmatch(word)
	if flag == nil {
		return word == "--"
	}
	_, known := values[flag[1]]
	return known || flag[1] == "help" || flag[1] == "h"
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil
	}
	return flags[i]
}

func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, command := range commands {
		names = append(names, command.Name)
	}
	return names
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
