package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// Every command has a page with every flag and every command below it, and no page is of
// a command that there is not.
func TestManualIsWhole(t *testing.T) {
	app := testApp(t)
	pages := manual(app)
	left := len(pages) - 1
	walk(app.Commands, nil, func(path []string, c *cli.Command) {
		page, ok := pages["conntape-"+strings.Join(path, "-")+".1"]
		if !ok {
			t.Errorf("no page of %v", path)
			return
		}
		left--
		for _, flag := range c.Flags {
			if !strings.Contains(page, roff(dashed(flag.Names()[0]))) {
				t.Errorf("the page of %v lacks --%s", path, flag.Names()[0])
			}
		}
	})
	for _, c := range app.Commands {
		if !strings.Contains(pages["conntape.1"], ".B "+roff(c.Name)+"\n") {
			t.Errorf("conntape.1 lacks %s", c.Name)
		}
	}
	if left != 0 {
		t.Errorf("%d pages too many", left)
	}
}

// Each shell completes every command and every flag.
func TestCompletionIsWhole(t *testing.T) {
	app := testApp(t)
	forms := map[string][2]string{"bash": {"%", "--%"}, "zsh": {"'%:", "'--%:"}, "fish": {"-a %", "-l %"}}
	for shell, write := range completions() {
		script := write(completedCommands(app))
		walk(app.Commands, nil, func(path []string, c *cli.Command) {
			if form := strings.Replace(forms[shell][0], "%", path[len(path)-1], 1); !strings.Contains(script, form) {
				t.Errorf("%s lacks the command %v", shell, path)
			}
			for _, flag := range c.Flags {
				if form := strings.Replace(forms[shell][1], "%", flag.Names()[0], 1); !strings.Contains(script, form) {
					t.Errorf("%s lacks --%s of %v", shell, flag.Names()[0], path)
				}
			}
		})
	}
}

// None of a text is a request of groff or an escape.
func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		".so /etc/passwd": `\&.so /etc/passwd`, "'br": `\(aqbr`, `a\fBb`: `a\efBb`, "--dir": `\-\-dir`, "a\n.b": "a\n\\&.b", "–": `\[u2013]`,
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
