package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store/escape"
	"github.com/urfave/cli/v2"
)

func (h *host) configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "print the settings that are in force, and where each comes from",
		Description: `A setting is the value of a flag of record, or of --tz or --format. The flag comes first, then the
variable CONNTAPE_NAME in the environment, then the file /etc/conntape.toml (--config PATH, or
CONNTAPE_CONFIG, names another), then the default. Takes every flag of record, to try it. A value
that record would refuse is an error here too.

Examples:
  conntape config
  conntape config --config ./conntape.toml --max-size 10GiB`,
		Flags:  append(h.recordCommand().Flags, tzFlag(), formatFlag([]string{"text", "json"}, "text")),
		Action: h.showConfig,
	}
}

// settingRow is a row of conntape config.
type settingRow struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from"`            // flag, environment, file, default
	Where string `json:"where,omitempty"` // flag, variable or file
}

func (h *host) showConfig(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	form, err := readReportFormat(c)
	if err != nil {
		return err
	}
	rows := h.settingRows(c)
	if form == "json" {
		err = h.writeConfigJSON(rows)
	} else {
		err = h.writeConfig(rows)
	}
	if err != nil {
		return err
	}
	if _, err = h.readRecordOptions(c); err != nil {
		return err
	}
	if _, err = h.readZone(c); err != nil {
		return err
	}
	if name := h.settings.get("format"); name != "" {
		_, err = format.Parse(name, format.Names()...)
	}
	return err
}

func (h *host) settingRows(c *cli.Context) []settingRow {
	var rows []settingRow
	for _, flag := range h.settingFlags() {
		name := flag.Names()[0]
		row := settingRow{Name: name, Value: fmt.Sprint(c.Value(name)), From: "default"}
		if name == "format" { // config has its own --format
			row.Value = "auto"
		}
		if value := h.settings.get(name); value != "" {
			row.Value, row.From, row.Where = value, h.settings.from[name].kind, h.settings.path
			if row.From == "environment" {
				row.Where = variableOf(name)
			}
		} else if c.IsSet(name) && name != "format" {
			row.From, row.Where = "flag", dashed(name)
		}
		rows = append(rows, row)
	}
	return rows
}

func (h *host) writeConfigJSON(rows []settingRow) error {
	text, err := json.MarshalIndent(struct {
		File     string       `json:"file"`
		Read     bool         `json:"read"`
		Settings []settingRow `json:"settings"`
	}{h.settings.path, h.settings.read, rows}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	_, err = h.stdout.Write(append(format.SafeJSON(text), '\n'))
	return err
}

func (h *host) writeConfig(rows []settingRow) error {
	var b strings.Builder
	tab := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "setting\tvalue\tfrom")
	for _, row := range rows {
		from := row.Where
		if from == "" {
			from = row.From
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\n", row.Name, escape.Safe(row.Value), escape.Safe(from))
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	if _, err := io.WriteString(h.stdout, b.String()); err != nil {
		return err
	}
	if !h.settings.read {
		note(h.stderr, "there is no file "+escape.Safe(h.settings.path))
	}
	stray := h.strayVariables()
	for _, name := range slices.Sorted(maps.Keys(stray)) {
		line := escape.Safe(name) + " in the environment is no setting"
		if near := stray[name]; near != "" {
			line += "; did you mean " + near + "?"
		}
		note(h.stderr, line)
	}
	return nil
}
