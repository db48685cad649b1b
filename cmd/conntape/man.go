package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

func (h *host) manCommand() *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "write the manual pages of all commands into a directory",
		ArgsUsage: "DIR",
		Description: `One page for each command, named conntape-COMMAND.1, and conntape.1 for all of them. The packages have
them installed.

Examples:
  conntape man ./pages && man ./pages/conntape-record.1`,
		Action: h.writeManual,
	}
}

func (h *host) writeManual(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("conntape man ./pages", "man takes a directory, and was given %d words", c.NArg())
	}
	dir := c.Args().First()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of manual: %w", err)
	}
	for name, page := range manual(c.App) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(page), 0o644); err != nil {
			return fmt.Errorf("write manual: %w", err)
		}
	}
	return nil
}

// manual returns the manual pages by file name.
func manual(app *cli.App) map[string]string {
	pages := map[string]string{"conntape.1": manPage(app, nil)}
	var add func(path []*cli.Command)
	add = func(path []*cli.Command) {
		pages[manName(path)+".1"] = manPage(app, path)
		for _, below := range path[len(path)-1].Subcommands {
			add(append(path[:len(path):len(path)], below))
		}
	}
	for _, command := range app.Commands {
		add([]*cli.Command{command})
	}
	return pages
}

// manName returns the name of a page: conntape-query-who.
func manName(path []*cli.Command) string {
	name := "conntape"
	for _, command := range path {
		name += "-" + command.Name
	}
	return name
}

// manPage writes the page of a command, or of the program if path is empty, with the macros of man(7).
func manPage(app *cli.App, path []*cli.Command) string {
	typed, usage, description, arguments := app.Name, app.Usage, app.Description, ""
	commands, flags := app.Commands, []cli.Flag(nil)
	for _, command := range path {
		typed += " " + command.Name
		usage, description, arguments = command.Usage, command.Description, command.ArgsUsage
		commands, flags = command.Subcommands, command.Flags
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, ".TH %q 1 \"\" \"conntape\"\n", strings.ToUpper(manName(path)))
	fmt.Fprintf(b, ".SH NAME\n%s \\- %s\n", roff(manName(path)), roff(usage))
	synopsis := typed
	if len(commands) > 0 {
		synopsis += " COMMAND"
	}
	if arguments != "" {
		synopsis += " " + arguments
	}
	fmt.Fprintf(b, ".SH SYNOPSIS\n%s [flags]\n", roff(synopsis))
	text, examples, _ := strings.Cut(description, "Examples:\n")
	if text = strings.TrimSpace(text); text != "" {
		fmt.Fprintf(b, ".SH DESCRIPTION\n%s", roffText(text))
	}
	if len(commands) > 0 {
		fmt.Fprint(b, ".SH COMMANDS\n")
		for _, command := range commands {
			fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(command.Name), roff(command.Usage))
		}
	}
	if len(flags) > 0 {
		fmt.Fprint(b, ".SH OPTIONS\n")
	}
	for _, flag := range flagTexts(flags) {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(flag.label)), roff(flag.text))
	}
	if examples != "" {
		fmt.Fprintf(b, ".SH EXAMPLES\n.EX\n%s\n.EE\n", roff(strings.TrimRight(examples, "\n")))
	}
	fmt.Fprint(b, ".SH FILES\n.TP\n.I /etc/conntape.toml\nsettings; conntape config prints them\n.TP\n.I /var/lib/conntape\nthe tape\n")
	fmt.Fprintf(b, ".SH SEE ALSO\n%s\n", seeAlso(path, commands))
	return b.String()
}

// seeAlso lists the parent and child pages.
func seeAlso(path, commands []*cli.Command) string {
	var pages []string
	if len(path) > 0 {
		pages = append(pages, `\fB`+roff(manName(path[:len(path)-1]))+`\fP(1)`)
	}
	for _, command := range commands {
		pages = append(pages, `\fB`+roff(manName(append(path[:len(path):len(path)], command)))+`\fP(1)`)
	}
	return strings.Join(pages, ",\n")
}

// roffText writes paragraphs, and keeps indented lines.
func roffText(text string) string {
	var b strings.Builder
	indented := false
	for line := range strings.SplitSeq(text, "\n") {
		if now := strings.HasPrefix(line, "  "); now != indented {
			indented = now
			fmt.Fprintln(&b, map[bool]string{true: ".EX", false: ".EE"}[now])
		}
		if line == "" {
			line = ".PP"
		} else {
			line = roff(line)
		}
		fmt.Fprintln(&b, line)
	}
	if indented {
		fmt.Fprintln(&b, ".EE")
	}
	return b.String()
}

// roff escapes text for groff.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	var ascii strings.Builder
	for _, r := range text {
		if r < 0x80 {
			ascii.WriteRune(r)
		} else {
			fmt.Fprintf(&ascii, `\[u%04X]`, r)
		}
	}
	lines := strings.Split(ascii.String(), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
