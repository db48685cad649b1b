package query

import "io"

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

// cellWriter is a RowWriter whose rows are separate cells, so that a cell can be formatted once and written often.
type cellWriter interface {
	RowWriter
	// frame returns the texts before, between and after a row's cells.
	frame() (before, between, after string)
	// appendCell appends the cell of a column, counted from 0.
	appendCell(dst []byte, column int, v Value) []byte
	// writeRows writes rows formatted as such cells.
	writeRows(n int64, text []byte) error
}

// cellsOf returns w as a cellWriter, nil if it is none.
func cellsOf(w RowWriter) cellWriter {
	if w, ok := w.(interface{ cells() cellWriter }); ok {
		return w.cells()
	}
	c, _ := w.(cellWriter)
	return c
}

// appendRow appends a row of cells.
func appendRow(dst []byte, w cellWriter, values []Value) []byte {
	before, between, after := w.frame()
	dst = append(dst, before...)
	for i, v := range values {
		if i > 0 {
			dst = append(dst, between...)
		}
		dst = w.appendCell(dst, i, v)
	}
	return append(dst, after...)
}

// headerRow returns the names of columns as a row.
func headerRow(columns []string) []Value {
	row := make([]Value, len(columns))
	for i, name := range columns {
		row[i] = textValue(name)
	}
	return row
}

// FormatOptions are options of the formats.
type FormatOptions struct {
	Raw      bool      // csv, tsv: leave cells that a spreadsheet would run as a formula
	Width    int       // table: columns of the terminal, 0 for no limit
	Wrap     bool      // table: break long cells into lines instead of cutting them
	Paint    Palette   // table: colours
	Coverage *Coverage // json, html: coverage of the answer
	Origin   *Origin   // html: source of the answer

	Identity   *Identity // parquet: the tape
	Identified bool      // parquet: each row says of which tape it is
}

// format is one way to write rows.
type format struct {
	name, purpose string
	open          func(io.Writer, FormatOptions) RowWriter
}

// formats returns all formats, in help's order.
func formats() []format {
	return []format{
		{"table", "aligned columns, fitted to the terminal", func(w io.Writer, o FormatOptions) RowWriter { return newTable(w, o) }},
		{"csv", "RFC 4180 with a header; formulas neutralised", func(w io.Writer, o FormatOptions) RowWriter { return newCSV(w, o.Raw) }},
		{"tsv", "cells parted by tabs, one line a row; formulas neutralised", func(w io.Writer, o FormatOptions) RowWriter { return newTSV(w, o.Raw) }},
		{"json", "one object with the rows and their coverage", func(w io.Writer, o FormatOptions) RowWriter { return newJSON(w, o.Coverage) }},
		{"jsonl", "one object a row, a row a line", func(w io.Writer, _ FormatOptions) RowWriter { return newJSONLines(w) }},
		{"markdown", "a table of Markdown", func(w io.Writer, _ FormatOptions) RowWriter { return newMarkdown(w) }},
		{"parquet", "for DuckDB, ClickHouse, Trino and the like; times as timestamps", func(w io.Writer, o FormatOptions) RowWriter { return newParquet(w, o) }},
		{"html", "one page that needs nothing else, with its origin and coverage", func(w io.Writer, o FormatOptions) RowWriter { return newHTML(w, o) }},
	}
}

// FormatNames returns the names of the output formats.
func FormatNames() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// NewRowWriter returns a writer of the named format, or a UsageError.
func NewRowWriter(name string, w io.Writer, o FormatOptions) (RowWriter, error) {
	name, err := ParseFormat(name, FormatNames()...)
	if err != nil {
		return nil, err
	}
	for _, f := range formats() {
		if f.name == name {
			return f.open(w, o), nil
		}
	}
	return nil, usagef("", "format %q cannot be written", name)
}
