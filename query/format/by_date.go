package format

import (
	"errors"
	"io"
	"slices"
)

// ByDate returns a writer that hands the rows of each date, by their column time in UTC, to a writer of its own. open is called
// for each date that comes up, and what it returns is closed at the end.
func ByDate(o Options, open func(date string) (io.WriteCloser, error)) RowWriter {
	return &dateWriter{options: o, open: open, parts: make(map[string]*datePart)}
}

type dateWriter struct {
	options Options
	open    func(date string) (io.WriteCloser, error)
	columns []string
	time    int // column
	parts   map[string]*datePart
}

// datePart is the rows of one date.
type datePart struct {
	RowWriter
	to io.Closer
}

// errNoTime is the error of rows that cannot be parted.
var errNoTime = errors.New("part rows by date: they have no time")

// Begin learns the columns.
func (w *dateWriter) Begin(columns []string) error {
	w.columns, w.time = slices.Clone(columns), slices.Index(columns, "time")
	if w.time < 0 {
		return errNoTime
	}
	return nil
}

// Row writes a row.
func (w *dateWriter) Row(values []Value) error {
	const date = len("2006-01-02")
	if v := values[w.time]; v.Kind != Text || len(v.Bytes) != len(TapeTime) {
		return errNoTime
	}
	part := w.parts[string(values[w.time].Bytes[:date])]
	if part == nil {
		name := string(values[w.time].Bytes[:date])
		to, err := w.open(name)
		if err != nil {
			return err
		}
		part = &datePart{newParquet(to, w.options), to}
		w.parts[name] = part
		if err := part.Begin(w.columns); err != nil {
			return err
		}
	}
	return part.Row(values)
}

// End completes the parts.
func (w *dateWriter) End(cut string) error {
	var all error
	for _, part := range w.parts {
		all = errors.Join(all, part.RowWriter.End(cut), part.to.Close())
	}
	return all
}
