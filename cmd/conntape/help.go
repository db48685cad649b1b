package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"
)

// helpWidth is the width of the list of flags, in columns.
const helpWidth = 110

// printHelp writes the help of a command, or of the program if path is empty. It replaces cli's help, to allow flags
// anywhere, real defaults, and tested examples.
func printHelp(w io.Writer, app *cli.App, path []*cli.Command) error {
	name, usage, description, arguments := app.Name, app.Usage, app.Description, ""
	commands, flags := app.Commands, []cli.Flag(nil)
	for _, command := range path {
		name += " " + command.Name
		usage, description, arguments = command.Usage, command.Description, command.ArgsUsage
		commands, flags = command.Subcommands, command.Flags
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s: %s\n\nUsage: %s", name, usage, name)
	if len(commands) > 0 {
		fmt.Fprint(b, " COMMAND")
	}
	if arguments != "" {
		fmt.Fprintf(b, " %s", arguments)
	}
	fmt.Fprint(b, " [flags]\n")
	if description != "" {
		fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(description))
	}
	if err := listCommands(b, commands); err != nil {
		return err
	}
	if err := listFlags(b, flags); err != nil {
		return err
	}
	if len(commands) > 0 {
		fmt.Fprintf(b, "\n%s COMMAND --help tells more. Flags may stand before or after arguments.\n", name)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// listCommands lists commands by category.
func listCommands(w io.Writer, commands []*cli.Command) error {
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	category := "\x00"
	for _, command := range commands {
		if command.Category != category {
			category = command.Category
			title := "Commands"
			if category != "" {
				title = category
			}
			fmt.Fprintf(tab, "\n%s:\n", title)
		}
		fmt.Fprintf(tab, "  %s\t%s\n", command.Name, command.Usage)
	}
	return tab.Flush()
}

// flagText is a flag in help and manual.
type flagText struct{ label, text string }

// flagTexts returns flags with placeholder, usage and default.
func flagTexts(flags []cli.Flag) []flagText {
	var list []flagText
	for _, flag := range flags {
		spellings := make([]string, 0, 2)
		for _, name := range flag.Names() {
			spellings = append(spellings, dashed(name))
		}
		doc, ok := flag.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		value, usage := placeholder(doc.GetUsage())
		if value != "" {
			value = " " + value
		}
		if standard := doc.GetDefaultText(); doc.TakesValue() && standard != "" && standard != `""` && standard != "0" {
			usage += " (default " + strings.Trim(standard, `"`) + ")"
		}
		list = append(list, flagText{"  " + strings.Join(spellings, ", ") + value, usage})
	}
	return list
}

// listFlags lists flags in two columns.
func listFlags(w io.Writer, flags []cli.Flag) error {
	if len(flags) == 0 {
		return nil
	}
	list := flagTexts(flags)
	widest := 0
	for _, flag := range list {
		widest = max(widest, len(flag.label))
	}
	fmt.Fprint(w, "\nFlags:\n")
	for _, flag := range list {
		label := flag.label
		for line := range strings.SplitSeq(text.WrapSoft(flag.text, helpWidth-widest-3), "\n") {
			if _, err := fmt.Fprintf(w, "%-*s   %s\n", widest, label, strings.TrimSpace(line)); err != nil {
				return err
			}
			label = ""
		}
	}
	return nil
}

// placeholder splits the leading word in backquotes, if any, off a usage text.
func placeholder(usage string) (value, rest string) {
	if after, ok := strings.CutPrefix(usage, "`"); ok {
		value, rest, _ = strings.Cut(after, "`")
		return value, strings.TrimSpace(rest)
	}
	return "", usage
}
