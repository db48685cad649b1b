package main

import (
	"strings"
	"time"

	"github.com/conntape/conntape/query"
	"github.com/urfave/cli/v2"
)

// The flags that several commands have. They mean the same on each of them.

// defaultDir is where a tape is kept unless --dir says otherwise.
const defaultDir = "/var/lib/conntape"

// dirVariable is the environment variable that stands for --dir.
const dirVariable = "CONNTAPE_DIR"

func dirFlag(what string) cli.Flag {
	return &cli.StringFlag{Name: "dir", Usage: "`PATH` " + what + "; " + dirVariable + " in the environment stands for it", Value: defaultDir}
}

func sinceFlag() cli.Flag {
	return &cli.StringFlag{Name: "since", Usage: "`TIME` only what began then or later: 2h, 7d, today, \"yesterday 14:00\", 2026-07-01, RFC 3339, unix seconds"}
}

func untilFlag() cli.Flag {
	return &cli.StringFlag{Name: "until", Usage: "`TIME` only what began before, in the same forms"}
}

func tzFlag() cli.Flag {
	return &cli.StringFlag{Name: "tz", Usage: "`ZONE` to read and to show times in: UTC, local, Europe/Paris", Value: "UTC"}
}

func formatFlag(names []string, standard string) cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "`FORMAT` " + strings.Join(names, ", "), DefaultText: standard}
}

func rawFlag() cli.Flag {
	return &cli.BoolFlag{Name: "raw", Usage: "csv, tsv: leave cells as they are that a spreadsheet would run as a formula"}
}

func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "leave out what is only said for your information on stderr"}
}

func timeoutFlag() cli.Flag {
	return &cli.StringFlag{Name: "timeout", Usage: "`TIME` after which the answer is cut: 30s, 5m", DefaultText: "none"}
}

func limitFlag(usage string, standard int64) cli.Flag {
	return &cli.Int64Flag{Name: "limit", Usage: usage, Value: standard}
}

// answerFlags are the flags of every command that asks a tape, with the limit
// that is its own.
func answerFlags(limit cli.Flag) []cli.Flag {
	return []cli.Flag{
		dirFlag("the tape: its directory, or one segment file"), sinceFlag(), untilFlag(), tzFlag(),
		formatFlag(query.FormatNames(), "table on a terminal, csv elsewhere"), outputFlag(), rawFlag(), limit, timeoutFlag(), quietFlag(),
	}
}

// readZone reads --tz.
func readZone(c *cli.Context) (*time.Location, error) { return query.ParseZone(c.String("tz")) }

// readWindow reads --since and --until.
func (h *host) readWindow(c *cli.Context, zone *time.Location) (query.Window, error) {
	clock := query.Clock{Now: h.now(), Zone: zone}
	for _, name := range []string{"since", "until"} {
		if c.IsSet(name) && c.String(name) == "" {
			return query.Window{}, usagef(query.TimeExamples, "--%s is empty", name)
		}
	}
	return clock.ParseWindow(c.String("since"), c.String("until"))
}

// readTimeout reads --timeout.
func readTimeout(c *cli.Context) (time.Duration, error) {
	if !c.IsSet("timeout") {
		return 0, nil
	}
	timeout, err := query.ParseDuration(c.String("timeout"))
	if err == nil && timeout <= 0 {
		return 0, usagef("leave --timeout out for no limit", "--timeout must be more than nothing")
	}
	return timeout, err
}

// readDir reads --dir, or else the environment.
func (h *host) readDir(c *cli.Context) (string, error) {
	if dir := h.getenv(dirVariable); dir != "" && !c.IsSet("dir") {
		return dir, nil
	}
	if c.String("dir") == "" {
		return "", usagef("give the directory of a tape, such as "+defaultDir, "--dir is empty")
	}
	return c.String("dir"), nil
}

// noArguments refuses arguments that the command does not take.
func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("", "%s takes no argument, and was given %q", c.Command.HelpName, c.Args().First())
	}
	return nil
}

// readReportFormat returns the format of a report, which is for people unless asked otherwise.
func readReportFormat(c *cli.Context) (string, error) {
	format := "text"
	if c.IsSet("format") {
		format = c.String("format")
	}
	return format, query.CheckFormat(format, "text", "json")
}
