package format

import (
	"bufio"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
)

// Widths of the columns of tail, in terminal columns. With a blank after each, 35 of 80 are left for the destination.
const (
	lineProcess = 18
	lineOutcome = 12
	lineLeast   = 80 // width assumed for a narrower terminal
)

// lineWriter writes a connection per line: time, process, outcome, destination and, if there is room, the arguments.
type lineWriter struct {
	out   *bufio.Writer
	width int // of the terminal, 0: nothing is cut
	zone  *time.Location
	paint Palette
}

// NewLineWriter returns a RowWriter of the columns of a tail.
func NewLineWriter(w io.Writer, width int, zone *time.Location, paint Palette) RowWriter {
	if width > 0 {
		width = max(width, lineLeast)
	}
	return &lineWriter{out: bufio.NewWriter(w), width: width, zone: zone, paint: paint}
}

// Begin does nothing: a tail has no header.
func (*lineWriter) Begin([]string) error { return nil }

// Row writes one line.
func (l *lineWriter) Row(values []Value) error {
	cell := func(i int) string { return string(values[i].AppendPlain(nil, false)) }
	at := cell(0)
	if t, err := time.Parse(TapeTime, at); err == nil {
		at = t.In(l.zone).Format("15:04:05.000")
	}
	pid := "(" + cell(2) + ")"
	process := fitText(cell(1), lineProcess-len(pid)) + pid
	outcome := cell(4)
	to := cell(3)
	if values[5].Int > 1 {
		to += " ×" + cell(5)
	}
	line := at + " " + padTo(process, lineProcess) + " " + padTo(outcome, lineOutcome) + " "
	painted := at + " " + padTo(process, lineProcess) + " " + l.paint.outcome(outcome, padTo(outcome, lineOutcome)) + " "
	left := l.width - displayWidth(line)
	switch {
	case l.width == 0:
		painted += to + "  " + cell(7)
	case displayWidth(to)+12 > left:
		painted += fitText(to, left)
	default:
		painted += to + "  " + fitText(cell(7), left-displayWidth(to)-2)
	}
	_, err := l.out.WriteString(strings.TrimRight(painted, " ") + "\n")
	return err
}

// End flushes.
func (l *lineWriter) End(string) error { return l.out.Flush() }

// fitText shortens a text in the middle.
func fitText(s string, width int) string {
	if displayWidth(s) <= width || width < 3 {
		return snip(s, max(width, 1))
	}
	runes := []rune(s)
	head := text.Trim(s, (width-1)/2)
	tail := runes[len(runes)-(width-1-(width-1)/2):]
	for displayWidth(string(tail)) > width-1-(width-1)/2 {
		tail = tail[1:]
	}
	return head + "…" + string(tail)
}

// padTo pads with blanks.
func padTo(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-displayWidth(s)))
}
