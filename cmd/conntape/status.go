package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

func (h *host) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "tell what is recorded since when, by what, and what is missing",
		Description: `Whether a recorder runs now, since when there is a recording, when its last batch was safely on the
disk, what was counted as seen, stored, coalesced and lost, the gaps, and what the backend cannot
see. A tape that nobody is recording is no failure: the exit code is 0.

Examples:
  conntape status
  conntape status --dir ./tape --format json`,
		Flags:  []cli.Flag{dirFlag("directory of the tape, or one segment file"), tzFlag(), formatFlag([]string{"text", "json"}, "text")},
		Action: h.status,
	}
}

// busiestWithin is how long a status may count who wrote how much.
const busiestWithin = time.Second

func (h *host) status(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	zone, err := h.readZone(c)
	if err != nil {
		return err
	}
	format, err := readReportFormat(c)
	if err != nil {
		return err
	}
	var covered store.Coverage
	var status *query.Status
	err = leavingOut(func(damaged []store.LeftOut) error {
		tape, err := store.OpenTape(dir, damaged...)
		if err != nil {
			return err
		}
		defer tape.Close()
		if covered, err = tape.Coverage(); err != nil {
			return findDamage(tape, err)
		}
		status = query.NewStatus(dir, covered, tape.Segments())
		status.Busiest, err = query.FindBusiest(c.Context, tape, busiestWithin)
		return findDamage(tape, err)
	})
	if err != nil {
		return err
	}
	if format == "text" {
		err = h.writeStatus(status, zone)
	} else {
		err = h.writeStatusJSON(status)
	}
	if err == nil && store.AnyLost(covered.LeftOut) {
		return errDamaged
	}
	return err
}

func (h *host) writeStatusJSON(status *query.Status) error {
	text, err := json.MarshalIndent(status, "", "  ")
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	_, err = h.stdout.Write(append(query.SafeJSON(text), '\n'))
	return err
}

// statusLabel is how wide the labels of a status are, with the blank after them.
const statusLabel = 13

// writeStatus writes a status for people, broken between words where the terminal is
// narrower.
func (h *host) writeStatus(status *query.Status, zone *time.Location) error {
	var b strings.Builder
	if err := status.WriteText(&b, zone, h.now()); err != nil {
		return err
	}
	width, _ := h.width()
	_, err := io.WriteString(h.stdout, query.WrapText(b.String(), width, statusLabel))
	return err
}
