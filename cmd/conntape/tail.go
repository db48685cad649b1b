package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// tailShare bounds tail's load: it waits at least this many times as long as it looked, because looking copies the open
// segment.
const tailShare = 10

func (h *host) tailCommand() *cli.Command {
	return &cli.Command{
		Name:  "tail",
		Usage: "show connections as they are recorded, one a line",
		Description: `Shows the newest connections and then each that follows, until Ctrl-C: when (time of day), who, what
became of it and where to. It goes on when the recorder is restarted, and says on stderr when it stops,
when it is there again, and what was lost. Into a pipe nothing is cut, and --format jsonl has the same
as data. What is shown was safely on the disk first, a second or so after it happened.

Examples:
  conntape tail
  conntape tail --exe curl --outcome refused
  conntape tail --events all
  conntape tail --where "not is_private(remote_address) and loginuid is null"`,
		Flags: append(filterFlags(nil, report.Connections),
			dirFlag("directory of the tape, or one segment file"), tzFlag(), formatFlag([]string{"line", "jsonl"}, "line"),
			limitFlag("`N` end after this many connections; 0 for no end", 0), quietFlag(),
			&cli.Int64Flag{Name: "lines", Usage: "`N` earlier connections to show first", Value: 10},
			&cli.StringFlag{Name: "where", Usage: "`SQL` condition on the columns of connections"},
			&cli.StringFlag{Name: "events", Usage: "`LIST` show also what is recorded beside connects: " + strings.Join(report.TailEvents(), ", ") + ", or all"},
			allFlag()),
		Action: h.tail,
	}
}

// tailing is a running tail.
type tailing struct {
	damaged []store.LeftOut // segments left out from now on
	h       *host
	dir     string
	clock   input.Clock
	tail    *report.Tail
	out     format.RowWriter
	quiet   bool

	limit, shown int64
	recording    bool
	gaps         map[string]bool // gaps already reported
	trouble      string          // last reported error
}

func (h *host) tail(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	t := &tailing{h: h, quiet: c.Bool("quiet"), limit: c.Int64("limit"), gaps: make(map[string]bool)}
	var err error
	if t.dir, err = h.readDir(c); err != nil {
		return err
	}
	zone, err := h.readZone(c)
	if err != nil {
		return err
	}
	t.clock = input.Clock{Now: h.now(), Zone: zone}
	width, terminal := h.width()
	form := "line"
	if c.IsSet("format") {
		if form, err = format.Parse(c.String("format"), "line", "jsonl"); err != nil {
			return err
		}
	}
	if form == "line" {
		t.out = format.NewLineWriter(h.stdout, width, zone, h.palette(terminal))
	} else {
		t.out = &lineByLine{open: func() (format.RowWriter, error) {
			out, err := format.NewRowWriter("jsonl", h.stdout, format.Options{})
			return format.InZone(out, zone), err
		}}
	}
	filter, err := readFilter(c, report.Connections)
	if err != nil {
		return err
	}
	filter.Where = c.String("where")
	t.tail = report.NewTail(filter, c.Bool("all"), h.now().UnixNano())
	if list := c.String("events"); list != "" {
		if err := t.tail.Events(strings.Split(strings.ReplaceAll(list, " ", ""), ",")); err != nil {
			return err
		}
	}
	if err := t.begin(c.Context, c.Int64("lines")); err != nil {
		return err
	}
	return t.follow(c.Context)
}

// begin checks the tape and the filter, and reports the coverage.
func (t *tailing) begin(ctx context.Context, lines int64) error {
	tape, err := store.OpenTapeContext(ctx, t.dir)
	if err != nil {
		return err
	}
	defer tape.Close()
	covered, err := tape.Coverage()
	if err != nil {
		return err
	}
	if err := t.tail.Check(ctx, tape.Conn(), t.clock); err != nil {
		return noDamage(tape, err)
	}
	if lines > 0 {
		if err := t.tail.Back(ctx, tape.Conn(), lines, t.clock); err != nil {
			return noDamage(tape, err)
		}
	}
	for _, g := range covered.Gaps {
		t.gaps[gapKey(g)] = true
	}
	t.recording = covered.Recording
	if !covered.Recording {
		t.say("NOT recording: nothing new will be shown until a recorder is started")
	}
	return nil
}

// follow looks after each change of the tape until ctx ends.
func (t *tailing) follow(ctx context.Context) error {
	const soonest = 500 * time.Millisecond
	last := ""
	for {
		started := time.Now()
		if now := t.fingerprint(); now != last || now == "" {
			switch err := t.look(ctx); {
			case ctx.Err() != nil:
				return nil // Ctrl-C ends a tail normally
			case errors.Is(err, errTailWrite):
				return err
			default:
				t.tellTrouble(err)
				if err == nil {
					last = now
				}
			}
		}
		if t.limit > 0 && t.shown >= t.limit {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(soonest, tailShare*time.Since(started))):
		}
	}
}

// fingerprint changes when a file of the tape changes.
func (t *tailing) fingerprint() string {
	names, err := filepath.Glob(filepath.Join(t.dir, "*.db*"))
	if info, statErr := os.Stat(t.dir); err != nil || statErr == nil && !info.IsDir() {
		names = []string{t.dir, t.dir + "-wal"}
	}
	var b strings.Builder
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintln(&b, name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

// errTailWrite marks an error of stdout, which ends the tail.
var errTailWrite = errors.New("write connections")

// look shows the new connections.
func (t *tailing) look(ctx context.Context) error {
	tape, err := store.OpenTapeContext(ctx, t.dir, t.damaged...)
	if err != nil {
		return err
	}
	defer tape.Close()
	covered, err := tape.Coverage()
	if err != nil {
		return err
	}
	left := int64(0)
	if t.limit > 0 {
		left = t.limit - t.shown
	}
	out := &writeErrors{RowWriter: t.out}
	n, err := t.tail.Look(ctx, tape.Conn(), t.clock, left, out)
	t.shown += n
	if out.err != nil {
		return fmt.Errorf("%w: %w", errTailWrite, out.err)
	}
	err = noDamage(tape, err)
	t.damaged = append(t.damaged, tape.Damage()...)
	if err == nil {
		t.tellCoverage(covered)
		for _, left := range tape.LeftOut() {
			if errors.Is(left.Err, segment.ErrGone) {
				t.say(fmt.Sprintf("LEFT OUT %s: %v", left.Path, left.Err))
			}
		}
	}
	return err
}

// tellCoverage reports when recording began, ended or lost connections.
func (t *tailing) tellCoverage(c store.Coverage) {
	for _, g := range c.Gaps {
		if _, excluded := segment.ExcludedBy(g.Cause); excluded {
			continue // of which the start told
		}
		if key := gapKey(g); !t.gaps[key] {
			t.gaps[key] = true
			if !g.To.IsZero() {
				t.say(fmt.Sprintf("gap of %v, %s lost: %s", g.To.Sub(g.From).Round(time.Millisecond), coverage.LostText(g.Lost), strings.TrimSpace(g.Cause+" "+g.Detail)))
			}
		}
	}
	switch {
	case c.Recording && !t.recording:
		t.say(fmt.Sprintf("recording again, by process %d", c.PID))
	case !c.Recording && t.recording:
		t.say("recording STOPPED: waiting for it to go on")
	}
	t.recording = c.Recording
}

// tellTrouble reports once why a look failed; the next may succeed.
func (t *tailing) tellTrouble(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != t.trouble && text != "" {
		t.say("cannot look, and will try again: " + text)
	}
	t.trouble = text
}

func (t *tailing) say(line string) {
	if !t.quiet {
		note(t.h.stderr, line)
	}
}

func gapKey(g store.GapInfo) string {
	return fmt.Sprint(g.Segment, g.Cause, g.From.UnixNano(), g.To.UnixNano(), g.Lost)
}

// writeErrors remembers errors of writing, to distinguish them from errors of reading.
type writeErrors struct {
	format.RowWriter
	err error
}

// Row keeps the error.
func (w *writeErrors) Row(values []format.Value) error {
	w.err = w.RowWriter.Row(values)
	return w.err
}

// End keeps the error.
func (w *writeErrors) End(cut string) error {
	w.err = w.RowWriter.End(cut)
	return w.err
}

// lineByLine opens a new writer for each look, to write new rows at once.
type lineByLine struct {
	format.RowWriter
	open func() (format.RowWriter, error)
}

// Begin opens the next writer.
func (l *lineByLine) Begin(columns []string) (err error) {
	if l.RowWriter, err = l.open(); err != nil {
		return err
	}
	return l.RowWriter.Begin(columns)
}

// palette returns colours if stdout is a terminal and NO_COLOR is not set: https://no-color.org
func (h *host) palette(terminal bool) format.Palette {
	return format.Palette(terminal && h.getenv("NO_COLOR") == "" && h.getenv("TERM") != "dumb")
}
