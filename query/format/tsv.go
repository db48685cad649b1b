package format

import (
	"bufio"
	"io"
)

// tsvWriter writes a line per row, with tabs between cells. It quotes nothing: tabs and line ends in text are escaped.
// NULL and the empty text are both an empty cell.
type tsvWriter struct {
	out  *bufio.Writer
	raw  bool
	line []byte
}

func newTSV(w io.Writer, raw bool) *tsvWriter {
	return &tsvWriter{out: bufio.NewWriterSize(w, 64<<10), raw: raw}
}

// Begin writes the header.
func (t *tsvWriter) Begin(columns []string) error {
	if err := t.Row(headerRow(columns)); err != nil {
		return err
	}
	return t.out.Flush()
}

// Row writes one line.
func (t *tsvWriter) Row(values []Value) error {
	t.line = AppendRow(t.line[:0], t, values)
	return t.WriteRows(1, t.line)
}

func (*tsvWriter) Frame() (before, between, after string) { return "", "\t", "\n" }

func (t *tsvWriter) AppendCell(dst []byte, _ int, v Value) []byte {
	if v.Kind == Text && !t.raw && startsFormula(v.Bytes) {
		dst = append(dst, '\'')
	}
	return v.AppendPlain(dst, false)
}

func (t *tsvWriter) WriteRows(_ int64, text []byte) error {
	_, err := t.out.Write(text)
	return err
}

// End flushes the buffer.
func (t *tsvWriter) End(string) error { return t.out.Flush() }
