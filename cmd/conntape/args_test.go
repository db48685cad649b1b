package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/conntape/conntape/query/input"
	"github.com/urfave/cli/v2"
)

func testApp(t *testing.T) *cli.App {
	t.Helper()
	app, err := (&host{}).newApp()
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func TestParseArgs(t *testing.T) {
	app := testApp(t)
	for _, c := range []struct{ line, want string }{
		{"query|sql|select 1|--dir|/x", "query|sql|--dir=/x|--|select 1"},
		{"query|sql|--dir|/x|select 1", "query|sql|--dir=/x|--|select 1"},
		{"--dir|/x|query|sql|select 1", "query|sql|--dir=/x|--|select 1"},
		{"query|--dir=/x|sql|select 1", "query|sql|--dir=/x|--|select 1"},
		{"query|sql|-q|select 1|--limit|5", "query|sql|-q=true|--limit=5|--|select 1"},
		{"query|sql|--format|csv|--|--dir", "query|sql|--format=csv|--|--dir"},
		{"query|sql|-- a comment\nselect 1", "query|sql|--|-- a comment\nselect 1"},
		{"query|sql|-1", "query|sql|--|-1"},
		{"query|sql|-", "query|sql|--|-"},
		{"query|sql|--param|a=1,2|--param=b==|x", "query|sql|--param=a=1,2|--param=b==|--|x"},
		{"query|recent|--since|-2h", "query|recent|--since=-2h|--"},
		{"query|recent|--since|yesterday 14:00", "query|recent|--since=yesterday 14:00|--"},
		{"query|recent|-limit=3", "query|recent|--limit=3|--"},
		{"--version", "version|--"},
		{"query|sql|help", "query|sql|--|help"},
	} {
		call, err := parseArgs(app.Commands, strings.Split(c.line, "|"))
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if got := strings.Join(call.ordered(), "|"); got != c.want || call.help {
			t.Errorf("%s: got %s (help %v), want %s", c.line, got, call.help, c.want)
		}
	}
	for _, line := range []string{"help|query|sql", "query|help", "query|sql|--help", "-h", "query|sql|select 1|-h"} {
		if call, err := parseArgs(app.Commands, strings.Split(line, "|")); err != nil || !call.help {
			t.Errorf("%s: %v is not help", line, err)
		}
	}
}

// Any command line is understood or refused as wrong usage.
func FuzzParseArgs(f *testing.F) {
	f.Add("query\x00sql\x00select 1\x00--dir\x00/x")
	f.Add("--limit\x00=\x00--\x00-q=\x00query")
	f.Fuzz(func(t *testing.T, line string) {
		call, err := parseArgs(testApp(t).Commands, strings.Split(line, "\x00"))
		if err != nil && !errors.Is(err, input.ErrUsage) {
			t.Fatal(err)
		}
		if err == nil && !call.help && !call.bare() {
			call.ordered()
		}
	})
}

// A flag takes a value in every command or in none, because parseArgs reads flags before it knows the command.
func TestFlagsMeanTheSame(t *testing.T) {
	kinds := make(map[string]string)
	walk(testApp(t).Commands, nil, func(path []string, c *cli.Command) {
		for _, flag := range c.Flags {
			kind := "value"
			if _, ok := flag.(*cli.BoolFlag); ok {
				kind = "bool"
			}
			for _, name := range flag.Names() {
				if before, ok := kinds[name]; ok && before != kind {
					t.Errorf("%s: flag %s is %s here and %s elsewhere", strings.Join(path, " "), name, kind, before)
				}
				kinds[name] = kind
			}
		}
	})
	if kinds["dir"] != "value" || kinds["q"] != "bool" {
		t.Errorf("flags not found: %v", kinds)
	}
}

// Every command has help that says what it does, and only flags that it has.
func TestHelp(t *testing.T) {
	app := testApp(t)
	walk(app.Commands, nil, func(path []string, c *cli.Command) {
		var out strings.Builder
		call, err := parseArgs(app.Commands, append(slices.Clone(path), "--help"))
		if err != nil {
			t.Fatal(err)
		}
		if err := printHelp(&out, app, call.path); err != nil {
			t.Fatal(err)
		}
		help := out.String()
		if c.Usage == "" || !strings.HasPrefix(help, "conntape "+strings.Join(path, " ")+": "+c.Usage) {
			t.Errorf("%v: help begins %.80q", path, help)
		}
		for _, flag := range c.Flags {
			if !strings.Contains(help, "--"+flag.Names()[0]) {
				t.Errorf("%v: help lacks --%s", path, flag.Names()[0])
			}
		}
		if len(c.Subcommands) == 0 && len(c.Flags) > 3 && !strings.Contains(help, "Examples:\n") {
			t.Errorf("%v: help has no examples", path)
		}
	})
}

// walk calls fn for every command, with the words that name it.
func walk(commands []*cli.Command, path []string, fn func(path []string, c *cli.Command)) {
	for _, c := range commands {
		here := append(slices.Clone(path), c.Name)
		fn(here, c)
		walk(c.Subcommands, here, fn)
	}
}
