package format

import (
	"bufio"
	"bytes"
	"io"

	"github.com/conntape/conntape/store/escape"
)

// markdownWriter writes a GitHub Markdown table for reports. Text with anything but letters, digits and simple
// punctuation is in a code span, where no markup, link or image of an attacker works.
type markdownWriter struct {
	out  *bufio.Writer
	line []byte
	cell []byte
}

func newMarkdown(w io.Writer) *markdownWriter {
	return &markdownWriter{out: bufio.NewWriterSize(w, 64<<10)}
}

// Begin writes the header.
func (m *markdownWriter) Begin(columns []string) error {
	if err := m.Row(headerRow(columns)); err != nil {
		return err
	}
	m.line = append(append(m.line[:0], '|'), bytes.Repeat([]byte(" --- |"), len(columns))...)
	if _, err := m.out.Write(append(m.line, '\n')); err != nil {
		return err
	}
	return m.out.Flush()
}

// Row writes one line.
func (m *markdownWriter) Row(values []Value) error {
	m.line = AppendRow(m.line[:0], m, values)
	return m.WriteRows(1, m.line)
}

func (*markdownWriter) Frame() (before, between, after string) { return "| ", " | ", " |\n" }

func (m *markdownWriter) AppendCell(dst []byte, _ int, v Value) []byte {
	m.cell = v.AppendPlain(m.cell[:0], false)
	if v.IsNumber() || isPlainMarkdown(m.cell) {
		return append(dst, m.cell...)
	}
	return appendCodeSpan(dst, m.cell)
}

func (m *markdownWriter) WriteRows(_ int64, text []byte) error {
	_, err := m.out.Write(text)
	return err
}

// End says why rows are missing, below the table.
func (m *markdownWriter) End(cut string) error {
	if cut != "" {
		m.line = appendCodeSpan(append(m.line[:0], "\nCut: "...), escape.AppendSafe(nil, []byte(cut), false))
		if _, err := m.out.Write(append(m.line, '\n')); err != nil {
			return err
		}
	}
	return m.out.Flush()
}

// isPlainMarkdown reports whether a cell has nothing special to Markdown, autolinks included.
func isPlainMarkdown(cell []byte) bool {
	for _, b := range cell {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b >= 0x80:
		case bytes.IndexByte([]byte(" -.,:/()"), b) >= 0:
		default:
			return false
		}
	}
	lower := bytes.ToLower(cell)
	return !bytes.Contains(lower, []byte(":/")) && !bytes.Contains(lower, []byte("www."))
}

// appendCodeSpan appends a text as a code span. A bar ends a cell even there, unless it is escaped; after a backslash
// the escape would be misread, so the bar is written as the tape writes bytes.
func appendCodeSpan(dst, text []byte) []byte {
	longest, run := 0, 0
	for _, b := range text {
		if run++; b != '`' {
			run = 0
		}
		longest = max(longest, run)
	}
	fence := bytes.Repeat([]byte("`"), longest+1)
	dst = append(dst, fence...)
	pad := len(text) > 0 && (text[0] == '`' || text[len(text)-1] == '`' || text[0] == ' ' && text[len(text)-1] == ' ')
	if pad {
		dst = append(dst, ' ')
	}
	for i, b := range text {
		switch {
		case b == '|' && i > 0 && text[i-1] == '\\':
			dst = append(dst, `\x7c`...)
		case b == '|':
			dst = append(dst, `\|`...)
		default:
			dst = append(dst, b)
		}
	}
	if pad {
		dst = append(dst, ' ')
	}
	return append(dst, fence...)
}
