package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/conntape/conntape/doctor"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/retain"
)

func (h *host) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "look whether this host can be recorded, and prove that connects come back",
		Description: `Looks at kernel, privileges, disk, clock and tape, tries the backends, and says how to mend what is
wrong. Then it connects in each way, which sends nothing beyond this host, and looks for these connects
in a scratch tape, and in --dir if a recorder runs. The exit code is 3 if there is a problem.

Examples:
  sudo conntape doctor
  sudo conntape doctor --json`,
		Flags: []cli.Flag{
			dirFlag("directory of the tape"),
			formatFlag([]string{"text", "json"}, "text"),
			&cli.BoolFlag{Name: "json", Usage: "same as --format json"},
		},
		Action: h.examine,
	}
}

func (h *host) examine(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	form, err := readReportFormat(c)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if c.IsSet("format") {
			return usagef("leave out one of the two", "the format is given both with --json and with --format")
		}
		form = "json"
	}
	limits, err := h.configuredLimits(c.Context)
	if err != nil {
		return err
	}
	examination := doctor.Options{Dir: dir, Limits: limits, Find: findCookies}
	findings := []doctor.Finding{}
	problems := 0
	doctor.Run(c.Context, examination, func(f doctor.Finding) {
		findings = append(findings, f)
		if f.Level == doctor.Problem {
			problems++
		}
		if form == "text" && err == nil {
			err = h.tellFinding(f)
		}
	})
	switch {
	case err != nil:
		return err
	case c.Context.Err() != nil:
		return context.Cause(c.Context)
	}
	if err := h.closeExamination(findings, problems, form); err != nil {
		return err
	}
	if problems > 0 {
		return errFound
	}
	return nil
}

// configuredLimits returns the limits of the tape in the settings.
func (h *host) configuredLimits(ctx context.Context) (retain.Limits, error) {
	read, err := h.rereadAs(ctx, []string{"record"})
	if err != nil {
		return retain.Limits{}, err
	}
	return read.options.Limits, nil
}

func findCookies(ctx context.Context, dir string, cookies []uint64) (map[uint64]bool, error) {
	tape, err := store.OpenTapeContext(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer tape.Close()
	return table.FindCookies(ctx, tape, cookies)
}

// doctorLabel is the width of the column of names.
const doctorLabel = 16

// tellFinding writes a finding at once: the proof takes a while.
func (h *host) tellFinding(f doctor.Finding) error {
	mark := map[doctor.Level]string{doctor.OK: "ok", doctor.Note: "note", doctor.Problem: "PROBLEM"}[f.Level]
	text := fmt.Sprintf("%-*s%s: %s\n", doctorLabel, f.Name, mark, escape.Safe(f.Text))
	if f.Level == doctor.OK {
		text = fmt.Sprintf("%-*s%s\n", doctorLabel, f.Name, escape.Safe(f.Text))
	}
	if f.Mend != "" {
		text += fmt.Sprintf("%-*s→ %s\n", doctorLabel, "", escape.Safe(f.Mend))
	}
	width, _ := h.width()
	_, err := io.WriteString(h.stdout, format.WrapText(text, width, doctorLabel))
	return err
}

// closeExamination writes the summary.
func (h *host) closeExamination(findings []doctor.Finding, problems int, form string) error {
	if form == "json" {
		text, err := json.MarshalIndent(struct {
			Problems int              `json:"problems"`
			Findings []doctor.Finding `json:"findings"`
		}{problems, findings}, "", "  ")
		if err != nil {
			return fmt.Errorf("encode findings: %w", err)
		}
		_, err = h.stdout.Write(append(format.SafeJSON(text), '\n'))
		return err
	}
	verdict := "nothing is wrong"
	if problems > 0 {
		verdict = strings.Replace(fmt.Sprintf("%d problems", problems), "1 problems", "1 problem", 1)
	}
	_, err := fmt.Fprintf(h.stdout, "\n%s\n", verdict)
	return err
}
