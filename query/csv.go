package query

import (
	"bufio"
	"encoding/csv"
	"io"
	"unicode/utf8"
)

// csvWriter writes RFC 4180 with a header, in UTF-8, lines ended by LF. NULL and
// the empty text are both an empty cell.
type csvWriter struct {
	buffer  *bufio.Writer
	csv     *csv.Writer
	raw     bool
	cells   []string
	scratch []byte
}

func newCSV(w io.Writer, raw bool) *csvWriter {
	buffer := bufio.NewWriterSize(w, 64<<10)
	return &csvWriter{buffer: buffer, csv: csv.NewWriter(buffer), raw: raw}
}

// Begin writes the header.
func (c *csvWriter) Begin(columns []string) error {
	c.cells = c.cells[:0]
	for _, name := range columns {
		c.cells = append(c.cells, c.text([]byte(name)))
	}
	if err := c.write(); err != nil {
		return err
	}
	return c.flush()
}

// Row writes one record.
func (c *csvWriter) Row(values []Value) error {
	c.cells = c.cells[:0]
	for _, v := range values {
		if v.Kind == Text {
			c.cells = append(c.cells, c.text(v.Bytes))
			continue
		}
		c.scratch = v.appendPlain(c.scratch[:0], false)
		c.cells = append(c.cells, string(c.scratch))
	}
	return c.write()
}

// End flushes what is left.
func (c *csvWriter) End(string) error { return c.flush() }

// write puts one record out. encoding/csv writes a record of one empty cell as
// an empty line, which readers pass over, so that one is quoted here.
func (c *csvWriter) write() error {
	if len(c.cells) == 1 && c.cells[0] == "" {
		c.csv.Flush()
		if _, err := c.buffer.WriteString("\"\"\n"); err != nil {
			return err
		}
		return c.csv.Error()
	}
	return c.csv.Write(c.cells)
}

func (c *csvWriter) flush() error {
	c.csv.Flush()
	if err := c.csv.Error(); err != nil {
		return err
	}
	return c.buffer.Flush()
}

// text returns a text cell: safe, and unless raw never a formula.
func (c *csvWriter) text(text []byte) string {
	c.scratch = c.scratch[:0]
	if !c.raw && startsFormula(text) {
		c.scratch = append(c.scratch, '\'')
	}
	c.scratch = appendSafe(c.scratch, text, true)
	return string(c.scratch)
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
