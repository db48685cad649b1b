package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/tapedir"
)

func (h *host) holdCommand() *cli.Command {
	return &cli.Command{
		Name:  "hold",
		Usage: "keep the segments of a time range until they are released, or list what is kept",
		Description: `A legal hold: retention does not remove the segments of that time, nor those of a range that has
not ended yet. They are in a directory of their own, and can be queried there. Without --reason it
lists the holds. Making one needs to be root, or who records.

Examples:
  sudo conntape hold --since 2026-07-01 --until 2026-07-08 --reason "case 4711"
  conntape hold
  conntape query recent --dir /var/lib/conntape/held/20260709T081500.000`,
		Flags: []cli.Flag{
			dirFlag("directory of the tape"), sinceFlag(), untilFlag(), tzFlag(),
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` reason for the hold, kept in the log of the tape"},
			formatFlag([]string{"text", "json"}, "text"),
		},
		Action: h.hold,
	}
}

func (h *host) releaseCommand() *cli.Command {
	return &cli.Command{
		Name:      "release",
		Usage:     "end a hold: what it kept is removed",
		ArgsUsage: "HOLD",
		Description: `HOLD is what conntape hold prints. Segments that the tape itself still has stay there. Needs to be
root, or who records.

Example:
  sudo conntape release 20260709T081500.000 --reason "case closed"`,
		Flags: []cli.Flag{
			dirFlag("directory of the tape"),
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` reason for its end, kept in the log of the tape"},
		},
		Action: h.release,
	}
}

func (h *host) hold(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	zone, err := h.readZone(c)
	if err != nil {
		return err
	}
	form, err := readReportFormat(c)
	if err != nil {
		return err
	}
	window, err := h.readWindow(c, zone)
	if err != nil {
		return err
	}
	if !c.IsSet("reason") {
		if c.IsSet("since") || c.IsSet("until") {
			return usagef(`give it with --reason "case 4711"`, "a hold needs a reason")
		}
		dir, err := h.readDir(c)
		if err != nil {
			return err
		}
		holds, err := tapedir.Holds(dir)
		if err != nil {
			return err
		}
		return h.printHolds(dir, holds, form, zone)
	}
	if strings.TrimSpace(c.String("reason")) == "" {
		return usagef(`give it with --reason "case 4711"`, "--reason is empty")
	}
	a, err := h.ask(c, store.Request{Do: store.DoHold, Since: window.Since, Until: window.Until, Reason: c.String("reason")})
	if err != nil {
		return err
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	return h.printHolds(dir, []tapedir.Hold{*a.Hold}, form, zone)
}

func (h *host) release(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("conntape hold lists them", "release takes one hold")
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	holds, err := tapedir.Holds(dir)
	if err != nil {
		return err
	}
	if _, err := h.ask(c, store.Request{Do: store.DoRelease, Hold: c.Args().First(), Reason: c.String("reason")}); err != nil {
		return err
	}
	for _, hold := range holds {
		if hold.ID == c.Args().First() {
			note(h.stderr, fmt.Sprintf("hold %s has ended: its copies of %d segments (%d bytes) are removed; segments that the tape itself has stay there", escape.Safe(hold.ID), len(hold.Segments), hold.Bytes()))
		}
	}
	return nil
}

// printHolds lists holds, one per line or as a JSON array.
func (h *host) printHolds(dir string, holds []tapedir.Hold, form string, zone *time.Location) error {
	if form == "json" {
		if holds == nil {
			holds = []tapedir.Hold{}
		}
		text, err := json.MarshalIndent(holds, "", "  ")
		if err != nil {
			return fmt.Errorf("encode holds: %w", err)
		}
		_, err = h.stdout.Write(append(format.SafeJSON(text), '\n'))
		return err
	}
	if len(holds) == 0 {
		_, err := fmt.Fprintln(h.stdout, "none")
		return err
	}
	w := tabwriter.NewWriter(h.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOLD\tSINCE\tUNTIL\tSEGMENTS\tBYTES\tREASON\tDIRECTORY")
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.In(zone).Format(time.RFC3339)
	}
	for _, hold := range holds {
		segments := fmt.Sprint(len(hold.Segments))
		if n := len(hold.Missing); n > 0 {
			segments += fmt.Sprintf(" (%d missing)", n)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", escape.Safe(hold.ID), at(hold.Since), at(hold.Until), segments, hold.Bytes(),
			escape.Safe(hold.Reason), escape.Safe(tapedir.HeldPath(dir, hold.ID)))
	}
	return w.Flush()
}
