package format

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store/escape"
)

// Origin is the source of an answer, for a page that is read much later and elsewhere. Its text may be hostile.
type Origin struct {
	Host     string    // that was recorded
	Question string    // the command or the SQL
	Exported time.Time // when it was asked
	Version  string    // of the answering program
	TapeID   string
	Head     string // signed head of the tape's log, or the reason for having none
}

// htmlWriter writes a self-contained page: no script, external style sheet or font. Its content security policy only
// allows its own style, so that even a flaw in the escaping could load or run nothing.
//
// Numbers, times and addresses are never wrapped. Long paths and command lines wrap after separators. A table that is
// too wide scrolls.
type htmlWriter struct {
	out      *bufio.Writer
	coverage *coverage.Coverage
	origin   *Origin
	columns  []string
	rows     int64
	line     []byte
	cell     []byte
}

const htmlStyle = `:root { color-scheme: light dark; --text: #222; --page: #fff; --line: #ddd; --less: #595959 }
@media (prefers-color-scheme: dark) { :root { --text: #ddd; --page: #16181c; --line: #3a3d42; --less: #a0a0a0 } }
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: var(--text); background: var(--page) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; align-items: baseline; margin: 0 0 1em }
dt { color: var(--less) }
dd { margin: 0; overflow-wrap: anywhere }
dd, td { font-family: ui-monospace, monospace; font-size: 12px }
pre { margin: 0; font: inherit; white-space: pre-wrap; overflow-wrap: anywhere }
div { overflow: auto; max-height: 90vh }
table { border-collapse: collapse }
th, td { padding: .25em 1em .25em 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); white-space: pre }
th { position: sticky; top: 0; background: var(--page) }
th.n, td.n { text-align: right }
td.w { white-space: pre-wrap; min-width: 24em; max-width: 48em; overflow-wrap: break-word }
p { color: var(--less); margin: .5em 0 }
@media (max-width: 40em) { body { margin: .5em } dl { display: block } dd { margin-bottom: .3em } td.w { min-width: 16em } }
@media print {
:root { --text: #000; --page: #fff; --line: #999; --less: #333 }
@page { size: landscape; margin: 1cm }
body { margin: 0 } div { overflow: visible; max-height: none } dd, td { font-size: 8px } th { position: static; font-size: 9px }
thead { display: table-header-group } tr { break-inside: avoid } td.w { min-width: 0 }
}
`

const htmlHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>conntape</title>
<style>
` + htmlStyle + `</style>
</head>
<body>
`

func newHTML(w io.Writer, o Options) *htmlWriter {
	return &htmlWriter{out: bufio.NewWriterSize(w, 64<<10), coverage: o.Coverage, origin: o.Origin}
}

// Begin writes the page up to the first row.
func (h *htmlWriter) Begin(columns []string) error {
	h.columns = columns
	h.line = append(h.line[:0], htmlHead...)
	h.line = append(h.line, h.origin.html(h.coverage)...)
	h.line = append(h.line, "<div>\n<table>\n<thead>\n<tr>"...)
	for _, name := range columns {
		h.line = append(h.line, "<th>"+html.EscapeString(escape.Safe(name))+"</th>"...)
	}
	h.line = append(h.line, "</tr>\n</thead>\n<tbody>\n"...)
	if _, err := h.out.Write(h.line); err != nil {
		return err
	}
	return h.out.Flush()
}

// html returns where the answer comes from as a list, "" if that is not known.
func (o *Origin) html(c *coverage.Coverage) string {
	if o == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("<dl>\n")
	item := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "<dt>%s</dt><dd>%s</dd>\n", name, html.EscapeString(escape.Safe(text)))
		}
	}
	item("question", o.Question)
	item("host", o.Host)
	if c != nil {
		since, until := "the beginning", "the end"
		if c.Since != nil {
			since = input.Stamp(*c.Since, c.Zone)
		}
		if c.Until != nil {
			until = input.Stamp(*c.Until, c.Zone)
		}
		item("window", since+" to "+until)
		item("exported", input.Stamp(o.Exported, c.Zone))
	} else {
		item("exported", input.Stamp(o.Exported, time.UTC))
	}
	item("conntape", o.Version)
	item("tape", o.TapeID)
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(o.Head), "\n") {
		lines = append(lines, html.EscapeString(escape.Safe(line)))
	}
	fmt.Fprintf(&b, "<dt>signed head</dt><dd><pre>%s</pre></dd>\n</dl>\n", strings.Join(lines, "\n"))
	return b.String()
}

// Row writes one row of the table.
func (h *htmlWriter) Row(values []Value) error {
	h.line = AppendRow(h.line[:0], h, values)
	return h.WriteRows(1, h.line)
}

func (*htmlWriter) Frame() (before, between, after string) { return "<tr>", "", "</tr>\n" }

// longCell is the length, in characters, from which a text may wrap.
const longCell = 40

func (h *htmlWriter) AppendCell(dst []byte, column int, v Value) []byte {
	h.cell = v.AppendPlain(h.cell[:0], false)
	text := html.EscapeString(string(h.cell))
	switch {
	case v.IsNumber():
		dst = append(dst, `<td class="n">`...)
	case utf8.RuneCount(h.cell) > longCell && !isWhole(h.columns[column], string(h.cell)):
		dst, text = append(dst, `<td class="w">`...), breakable(text)
	default:
		dst = append(dst, "<td>"...)
	}
	return append(append(dst, text...), "</td>"...)
}

// isWhole reports whether a text is a time or an address, which do not wrap.
func isWhole(column, text string) bool {
	isAddress := column == "remote" || column == "example" || column == "remote_ip" || strings.HasSuffix(column, "address")
	return isTimeColumn(column) || isAddress && !strings.ContainsAny(text, "/@ ")
}

// breakable allows line breaks after separators of paths, options and lists in escaped text. Entities such as &lt; stay
// whole.
func breakable(escaped string) string {
	var b strings.Builder
	inEntity := false
	for i := range len(escaped) {
		c := escaped[i]
		b.WriteByte(c)
		switch {
		case c == '&':
			inEntity = true
		case inEntity:
			inEntity = c != ';'
		case strings.IndexByte("/,:;=?", c) >= 0 && i+1 < len(escaped) && escaped[i+1] != c:
			b.WriteString("<wbr>")
		}
	}
	return b.String()
}

func (h *htmlWriter) WriteRows(n int64, text []byte) error {
	h.rows += n
	_, err := h.out.Write(text)
	return err
}

// End writes what is missing and the coverage, and closes the page.
func (h *htmlWriter) End(cut string) error {
	lines := []string{strconv.FormatInt(h.rows, 10) + " rows"}
	if h.rows == 1 {
		lines[0] = "1 row"
	}
	if cut != "" {
		lines[0] += ", cut: " + escape.Safe(cut)
	}
	if h.coverage != nil {
		lines = append(lines, h.coverage.Lines(h.rows > 0)...)
	}
	h.line = append(h.line[:0], "</tbody>\n</table>\n</div>\n"...)
	for _, line := range lines {
		h.line = append(h.line, "<p>"+html.EscapeString(line)+"</p>\n"...)
	}
	if _, err := h.out.Write(append(h.line, "</body>\n</html>\n"...)); err != nil {
		return err
	}
	return h.out.Flush()
}
