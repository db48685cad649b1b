package query

import (
	"bufio"
	"html"
	"io"
	"strconv"
)

// htmlWriter writes one page that needs nothing else: no script, no style sheet,
// no font. Its content security policy forbids all of them but its own style, so
// that even a flaw in the escaping could load and run nothing.
type htmlWriter struct {
	out      *bufio.Writer
	coverage *Coverage
	rows     int64
	line     []byte
	cell     []byte
}

const htmlHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width">
<title>conntape</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
table { border-collapse: collapse }
th, td { padding: .25em .75em .25em 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; max-width: 60em }
th { position: sticky; top: 0; background: #fff }
td { font-family: ui-monospace, monospace; font-size: 12px; white-space: pre-wrap }
td.n { text-align: right }
p { color: #666; margin: .5em 0 }
</style>
</head>
<body>
<table>
<thead>
<tr>`

func newHTML(w io.Writer, c *Coverage) *htmlWriter {
	return &htmlWriter{out: bufio.NewWriterSize(w, 64<<10), coverage: c}
}

// Begin writes the page up to the first row.
func (h *htmlWriter) Begin(columns []string) error {
	h.line = append(h.line[:0], htmlHead...)
	for _, name := range columns {
		h.line = append(h.line, "<th>"+html.EscapeString(Safe(name))+"</th>"...)
	}
	h.line = append(h.line, "</tr>\n</thead>\n<tbody>\n"...)
	if _, err := h.out.Write(h.line); err != nil {
		return err
	}
	return h.out.Flush()
}

// Row writes one row of the table.
func (h *htmlWriter) Row(values []Value) error {
	h.line = appendRow(h.line[:0], h, values)
	return h.writeRows(1, h.line)
}

func (*htmlWriter) frame() (before, between, after string) { return "<tr>", "", "</tr>\n" }

func (h *htmlWriter) appendCell(dst []byte, _ int, v Value) []byte {
	if v.IsNumber() {
		dst = append(dst, `<td class="n">`...)
	} else {
		dst = append(dst, "<td>"...)
	}
	h.cell = v.appendPlain(h.cell[:0], false)
	return append(append(dst, html.EscapeString(string(h.cell))...), "</td>"...)
}

func (h *htmlWriter) writeRows(n int64, text []byte) error {
	h.rows += n
	_, err := h.out.Write(text)
	return err
}

// End closes the page, with what is missing and what the answer covers.
func (h *htmlWriter) End(cut string) error {
	lines := []string{strconv.FormatInt(h.rows, 10) + " rows"}
	if h.rows == 1 {
		lines[0] = "1 row"
	}
	if cut != "" {
		lines[0] += ", cut: " + Safe(cut)
	}
	if h.coverage != nil {
		lines = append(lines, h.coverage.Lines(h.rows > 0)...)
	}
	h.line = append(h.line[:0], "</tbody>\n</table>\n"...)
	for _, line := range lines {
		h.line = append(h.line, "<p>"+html.EscapeString(line)+"</p>\n"...)
	}
	if _, err := h.out.Write(append(h.line, "</body>\n</html>\n"...)); err != nil {
		return err
	}
	return h.out.Flush()
}
