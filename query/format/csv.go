package format

import (
	"bufio"
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"

	"github.com/conntape/conntape/store/escape"
)

// csvWriter writes RFC 4180 with a header, in UTF-8, lines ended by LF. NULL and
// the empty text are both an empty cell. It quotes what encoding/csv quotes.
type csvWriter struct {
	out  *bufio.Writer
	raw  bool
	lone bool // there is one column
	line []byte
}

func newCSV(w io.Writer, raw bool) *csvWriter {
	return &csvWriter{out: bufio.NewWriterSize(w, 64<<10), raw: raw}
}

// Begin writes the header.
func (c *csvWriter) Begin(columns []string) error {
	c.lone = len(columns) == 1
	if err := c.Row(headerRow(columns)); err != nil {
		return err
	}
	return c.out.Flush()
}

// Row writes one record.
func (c *csvWriter) Row(values []Value) error {
	c.line = AppendRow(c.line[:0], c, values)
	return c.WriteRows(1, c.line)
}

func (*csvWriter) Frame() (before, between, after string) { return "", ",", "\n" }

// AppendCell appends a cell. A record of a single empty one would be an empty line,
// which readers pass over, so that is quoted.
func (c *csvWriter) AppendCell(dst []byte, _ int, v Value) []byte {
	start := len(dst)
	if v.Kind == Text {
		dst = appendCSVText(dst, v.Bytes, c.raw)
	} else {
		dst = v.AppendPlain(dst, false)
	}
	if c.lone && len(dst) == start {
		dst = append(dst, `""`...)
	}
	return dst
}

func (c *csvWriter) WriteRows(_ int64, text []byte) error {
	_, err := c.out.Write(text)
	return err
}

// End flushes the buffer.
func (c *csvWriter) End(string) error { return c.out.Flush() }

// appendCSVText appends a text cell: safe, and unless raw never a formula.
func appendCSVText(dst, text []byte, raw bool) []byte {
	start := len(dst)
	if !raw && startsFormula(text) {
		dst = append(dst, '\'')
	}
	dst = escape.AppendSafe(dst, text, true)
	if !needsQuotes(dst[start:]) {
		return dst
	}
	cell := bytes.ReplaceAll(dst[start:], []byte(`"`), []byte(`""`))
	return append(append(append(dst[:start], '"'), cell...), '"')
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
