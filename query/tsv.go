package query

import (
	"bufio"
	"io"
)

// tsvWriter writes one line a row, cells parted by tabs. Nothing is quoted: a tab
// or a line end in a text is escaped, so that every tab parts and every line is a
// row. NULL and the empty text are both an empty cell.
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
	row := make([]Value, len(columns))
	for i, name := range columns {
		row[i] = Value{Kind: Text, Bytes: []byte(name)}
	}
	if err := t.Row(row); err != nil {
		return err
	}
	return t.out.Flush()
}

// Row writes one line.
func (t *tsvWriter) Row(values []Value) error {
	t.line = t.line[:0]
	for i, v := range values {
		if i > 0 {
			t.line = append(t.line, '\t')
		}
		if v.Kind == Text && !t.raw && startsFormula(v.Bytes) {
			t.line = append(t.line, '\'')
		}
		t.line = v.appendPlain(t.line, false)
	}
	t.line = append(t.line, '\n')
	_, err := t.out.Write(t.line)
	return err
}

// End flushes what is left.
func (t *tsvWriter) End(string) error { return t.out.Flush() }
