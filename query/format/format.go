package format

import (
	"io"

	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/input"
)

// RowWriter writes an answer in one format. Begin is called once, then Row for
// each row, then End once; nothing is called after an error. A writer holds a
// bounded number of rows, so that an answer of any length passes through it.
type RowWriter interface {
	// Begin starts the answer with the names of its columns.
	Begin(columns []string) error
	// Row writes one row. The values are valid only during the call.
	Row(values []Value) error
	// End completes the answer. cut says why rows are missing from its end,
	// and is "" when none are.
	End(cut string) error
}

// CellWriter is a RowWriter whose rows are separate cells, so that a cell can be formatted once and written often.
type CellWriter interface {
	RowWriter
	// Frame returns the texts before, between and after a row's cells.
	Frame() (before, between, after string)
	// AppendCell appends the cell of a column, counted from 0.
	AppendCell(dst []byte, column int, v Value) []byte
	// WriteRows writes rows formatted as such cells.
	WriteRows(n int64, text []byte) error
}

// CellsOf returns w as a cellWriter, nil if it is none.
func CellsOf(w RowWriter) CellWriter {
	if w, ok := w.(interface{ cells() CellWriter }); ok {
		return w.cells()
	}
	c, _ := w.(CellWriter)
	return c
}

// AppendRow appends a row of cells.
func AppendRow(dst []byte, w CellWriter, values []Value) []byte {
	before, between, after := w.Frame()
	dst = append(dst, before...)
	for i, v := range values {
		if i > 0 {
			dst = append(dst, between...)
		}
		dst = w.AppendCell(dst, i, v)
	}
	return append(dst, after...)
}

// headerRow returns the names of columns as a row.
func headerRow(columns []string) []Value {
	row := make([]Value, len(columns))
	for i, name := range columns {
		row[i] = TextValue(name)
	}
	return row
}

// Options are options of the formats.
type Options struct {
	Raw      bool               // csv, tsv: leave cells that a spreadsheet would run as a formula
	Width    int                // table: columns of the terminal, 0 for no limit
	Wrap     bool               // table: break long cells into lines instead of cutting them
	Paint    Palette            // table: colours
	Coverage *coverage.Coverage // json, html: coverage of the answer
	Origin   *Origin            // html: source of the answer

	Identity   *Identity // parquet: the tape
	Identified bool      // parquet: each row says of which tape it is
}

// format is one way to write rows.
type format struct {
	name, purpose string
	open          func(io.Writer, Options) RowWriter
}

// formats returns all formats, in help's order.
func formats() []format {
	return []format{
		{"table", "aligned columns, fitted to the terminal", func(w io.Writer, o Options) RowWriter { return newTable(w, o) }},
		{"csv", "RFC 4180 with a header; formulas neutralised", func(w io.Writer, o Options) RowWriter { return newCSV(w, o.Raw) }},
		{"tsv", "cells parted by tabs, one line a row; formulas neutralised", func(w io.Writer, o Options) RowWriter { return newTSV(w, o.Raw) }},
		{"json", "one object with the rows and their coverage", func(w io.Writer, o Options) RowWriter { return newJSON(w, o.Coverage) }},
		{"jsonl", "one object a row, a row a line", func(w io.Writer, _ Options) RowWriter { return newJSONLines(w) }},
		{"markdown", "a table of Markdown", func(w io.Writer, _ Options) RowWriter { return newMarkdown(w) }},
		{"parquet", "for DuckDB, ClickHouse, Trino and the like; times as timestamps", func(w io.Writer, o Options) RowWriter { return newParquet(w, o) }},
		{"html", "one page that needs nothing else, with its origin and coverage", func(w io.Writer, o Options) RowWriter { return newHTML(w, o) }},
	}
}

// Names returns the names of the output formats.
func Names() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// NewRowWriter returns a writer of the named format, or a UsageError.
func NewRowWriter(name string, w io.Writer, o Options) (RowWriter, error) {
	name, err := Parse(name, Names()...)
	if err != nil {
		return nil, err
	}
	for _, f := range formats() {
		if f.name == name {
			return f.open(w, o), nil
		}
	}
	return nil, input.Usagef("", "format %q cannot be written", name)
}
