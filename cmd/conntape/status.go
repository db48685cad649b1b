package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

func (h *host) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "tell what is recorded since when, by what, and what is missing",
		Description: `Whether a recorder runs now, since when there is a recording, when its last batch was safely on the
disk, what was counted as seen, stored, coalesced, excluded and lost, the gaps, and what the backend cannot
see. A tape that nobody is recording is no failure: the exit code is 0.

With --check, for a monitor, it says in one line whether all is well: a recorder runs and has
written within a minute, nobody was at its hooks, rings or process in the last hour, nothing was
lost in that hour, the disk has room, and the history is longer than an hour. The exit code is 0
when all is well, 3 when something is not, 1 when the tape cannot be read, 5 when part of it is damaged.

Examples:
  conntape status
  conntape status --check
  conntape status --dir ./tape --format json`,
		Flags: []cli.Flag{dirFlag("directory of the tape, or one segment file"), tzFlag(), formatFlag([]string{"text", "json"}, "text"),
			&cli.BoolFlag{Name: "check", Usage: "say in one line whether all is well, and exit with 3 if not"}},
		Action: h.status,
	}
}

// busiestWithin limits the time for counting each process's share of the tape.
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
	form, err := readReportFormat(c)
	if err != nil {
		return err
	}
	var covered store.Coverage
	var status *coverage.Status
	err = leavingOut(func(damaged []store.LeftOut) error {
		tape, err := store.OpenTapeContext(c.Context, dir, damaged...)
		if err != nil {
			return err
		}
		defer tape.Close()
		if err := tape.LookAtFiles(); err != nil {
			return findDamage(tape, err)
		}
		if covered, err = tape.Coverage(); err != nil {
			return findDamage(tape, err)
		}
		status = coverage.NewStatus(dir, covered, tape.Segments())
		if c.Bool("check") {
			return nil
		}
		status.Busiest, err = table.FindBusiest(c.Context, tape, busiestWithin)
		return findDamage(tape, err)
	})
	if err != nil {
		return err
	}
	h.judge(dir, status, covered)
	if c.Bool("check") {
		err = h.writeCheck(status)
	} else if form == "text" {
		err = h.writeStatus(status, zone)
	} else {
		err = h.writeStatusJSON(status)
	}
	if (err == nil || errors.Is(err, errFound)) && store.AnyLost(covered.LeftOut) {
		return errDamaged
	}
	return err
}

// judge adds the state of the disk and the verdict to a status.
func (h *host) judge(dir string, status *coverage.Status, covered store.Coverage) {
	room := int64(-1)
	reserved, err := store.Reserved(dir)
	if err == nil { // without any segment file
		status.Reserved = &reserved
		if room, err = store.RoomLeft(dir); err != nil {
			room = -1
		} else {
			status.Room = &room
		}
	}
	status.Verdict, status.Well = status.Check(covered, room, h.now())
}

// writeCheck writes the line for a monitor. It returns errFound if something is not well.
func (h *host) writeCheck(status *coverage.Status) error {
	if _, err := fmt.Fprintln(h.stdout, status.Verdict); err != nil || status.Well {
		return err
	}
	return errFound
}

func (h *host) writeStatusJSON(status *coverage.Status) error {
	text, err := json.MarshalIndent(status, "", "  ")
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	_, err = h.stdout.Write(append(format.SafeJSON(text), '\n'))
	return err
}

// statusLabel is how wide the labels of a status are, with the blank after them.
const statusLabel = 13

// writeStatus writes a status as text, wrapped to the terminal.
func (h *host) writeStatus(status *coverage.Status, zone *time.Location) error {
	var b strings.Builder
	if err := status.WriteText(&b, zone, h.now()); err != nil {
		return err
	}
	width, _ := h.width()
	_, err := io.WriteString(h.stdout, format.WrapText(b.String(), width, statusLabel))
	return err
}
