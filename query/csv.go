package query

import (
	"bufio"
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"
)

// csvWriter writes RFC 4180 with a header, in UTF-8, lines ended by LF. NULL and
// the empty text are both an empty cell. It quotes what encoding/csv quotes, and
// makes no garbage.
type csvWriter struct {
	out     *bufio.Writer
	raw     bool
	line    []byte
	scratch []byte
}

func newCSV(w io.Writer, raw bool) *csvWriter {
	return &csvWriter{out: bufio.NewWriterSize(w, 64<<10), raw: raw}
}

// Begin writes the header.
func (c *csvWriter) Begin(columns []string) error {
	row := make([]Value, len(columns))
	for i, name := range columns {
		row[i] = Value{Kind: Text, Bytes: []byte(name)}
	}
	if err := c.Row(row); err != nil {
		return err
	}
	return c.out.Flush()
}

// Row writes one record. One of a single empty cell would be an empty line, which
// readers pass over, so that is quoted.
func (c *csvWriter) Row(values []Value) error {
	c.line = c.line[:0]
	for i, v := range values {
		if i > 0 {
			c.line = append(c.line, ',')
		}
		if v.Kind == Text {
			c.text(v.Bytes)
		} else {
			c.line = v.appendPlain(c.line, false)
		}
	}
	if len(c.line) == 0 {
		c.line = append(c.line, `""`...)
	}
	c.line = append(c.line, '\n')
	_, err := c.out.Write(c.line)
	return err
}

// End flushes what is left.
func (c *csvWriter) End(string) error { return c.out.Flush() }

// text appends a text cell: safe, and unless raw never a formula.
func (c *csvWriter) text(text []byte) {
	start := len(c.line)
	if !c.raw && startsFormula(text) {
		c.line = append(c.line, '\'')
	}
	c.line = appendSafe(c.line, text, true)
	cell := c.line[start:]
	if !needsQuotes(cell) {
		return
	}
	c.scratch = append(c.scratch[:0], cell...)
	c.line = append(c.line[:start], '"')
	for _, b := range c.scratch {
		if b == '"' {
			c.line = append(c.line, '"')
		}
		c.line = append(c.line, b)
	}
	c.line = append(c.line, '"')
}

// needsQuotes reports whether a cell cannot stand by itself.
func needsQuotes(cell []byte) bool {
	if len(cell) == 0 {
		return false
	}
	r, _ := utf8.DecodeRune(cell)
	return unicode.IsSpace(r) || bytes.ContainsAny(cell, ",\"\r\n") || string(cell) == `\.`
}

// startsFormula reports whether a spreadsheet may run the text as a formula,
// told by its first rune: an operator, in its wide form too, or white space that
// import may strip.
func startsFormula(text []byte) bool {
	r, _ := utf8.DecodeRune(text)
	switch r {
	case '=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠':
		return len(text) > 0
	}
	return false
}
