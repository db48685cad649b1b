package main

import (
	"strings"
	"time"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/urfave/cli/v2"
)

// Flags of several commands. They mean the same in each.

// defaultDir is the default directory of a tape.
const defaultDir = "/var/lib/conntape"

// Environment variables for --dir and --format, shown in help. See settings.
const (
	dirVariable    = "CONNTAPE_DIR"
	formatVariable = "CONNTAPE_FORMAT"
)

// A flag's usage begins with the placeholder of its value in backquotes. Help shows the rest in a column, so it must be
// a sentence without it.

func dirFlag(what string) cli.Flag {
	return &cli.StringFlag{Name: "dir", Usage: "`PATH` " + what + "; the environment variable " + dirVariable + " also sets it", Value: defaultDir}
}

func sinceFlag() cli.Flag {
	return &cli.StringFlag{Name: "since", Usage: "`TIME` start of the window, included: 2h, 7d, today, \"yesterday 14:00\", 2026-07-01, RFC 3339, unix seconds"}
}

func untilFlag() cli.Flag {
	return &cli.StringFlag{Name: "until", Usage: "`TIME` end of the window, not included; the same forms"}
}

func tzFlag() cli.Flag {
	return &cli.StringFlag{Name: "tz", Usage: "`ZONE` time zone for times that you type and times that are shown: UTC, local, Europe/Paris", Value: "UTC"}
}

func formatFlag(names []string, standard string) cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "`FORMAT` output format: " + strings.Join(names, ", "), DefaultText: standard}
}

// rowFormatFlags are --format and -t of commands that write rows.
func rowFormatFlags() []cli.Flag {
	return []cli.Flag{
		formatFlag(format.Names(), formatVariable+" if it is set, else table on a terminal and csv in a pipe"),
		&cli.BoolFlag{Name: "table", Aliases: []string{"t"}, Usage: "write the table in a pipe too, for less and grep; same as --format table"},
	}
}

func rawFlag() cli.Flag {
	return &cli.BoolFlag{Name: "raw", Usage: "write cells unchanged to csv and tsv, even if a spreadsheet would run them as a formula"}
}

func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "write only warnings and errors to stderr"}
}

func timeoutFlag() cli.Flag {
	return &cli.StringFlag{Name: "timeout", Usage: "`TIME` stop after this time with the rows found so far, and exit with 4: 30s, 5m", DefaultText: "none"}
}

func limitFlag(usage string, standard int64) cli.Flag {
	return &cli.Int64Flag{Name: "limit", Aliases: []string{"n"}, Usage: usage, Value: standard}
}

// allFlag is --all of commands that leave out port-0 probes and disconnects.
func allFlag() cli.Flag {
	return &cli.BoolFlag{Name: "all", Usage: "show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too"}
}

// answerFlags are the flags of every command that asks a tape, with the command's own limit.
func answerFlags(limit cli.Flag) []cli.Flag {
	flags := []cli.Flag{dirFlag("directory of the tape, or one segment file"), sinceFlag(), untilFlag(), tzFlag()}
	flags = append(flags, rowFormatFlags()...)
	return append(flags, outputFlag(), rawFlag(), limit, timeoutFlag(), quietFlag())
}

// readZone reads the setting tz.
func (h *host) readZone(c *cli.Context) (*time.Location, error) {
	if zone := h.settings.get("tz"); zone != "" && !c.IsSet("tz") {
		return input.ParseZone(zone)
	}
	return input.ParseZone(c.String("tz"))
}

// readWindow reads --since and --until.
func (h *host) readWindow(c *cli.Context, zone *time.Location) (input.Window, error) {
	clock := input.Clock{Now: h.now(), Zone: zone}
	for _, name := range []string{"since", "until"} {
		if c.IsSet(name) && c.String(name) == "" {
			return input.Window{}, usagef(input.TimeExamples, "--%s is empty", name)
		}
	}
	return clock.ParseWindow(c.String("since"), c.String("until"))
}

// readTimeout reads --timeout.
func readTimeout(c *cli.Context) (time.Duration, error) {
	if !c.IsSet("timeout") {
		return 0, nil
	}
	timeout, err := input.ParseDuration(c.String("timeout"))
	if err == nil && timeout <= 0 {
		return 0, usagef("leave --timeout out for no limit", "--timeout must be longer than nothing")
	}
	return timeout, err
}

// readDir reads the setting dir.
func (h *host) readDir(c *cli.Context) (string, error) {
	if dir := h.settings.get("dir"); dir != "" && !c.IsSet("dir") {
		return dir, nil
	}
	if c.String("dir") == "" {
		return "", usagef("give the directory of a tape, such as "+defaultDir, "--dir is empty")
	}
	return c.String("dir"), nil
}

// noArguments refuses arguments.
func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		hint := c.Command.HelpName + " --help lists the flags"
		if strings.Contains(c.Args().First(), "/") && findFlag(c.Command.Flags, "dir") != nil {
			hint = "did you mean --dir " + c.Args().First() + "?"
		}
		return usagef(hint, "%s takes no argument, but was given %q", c.Command.HelpName, c.Args().First())
	}
	return nil
}

// readReportFormat returns the format of a report: text by default.
func readReportFormat(c *cli.Context) (string, error) {
	if !c.IsSet("format") {
		return "text", nil
	}
	return format.Parse(c.String("format"), "text", "json")
}
