package indicator

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// A page or a part of one is read as the text that a reader sees: a row of a table is a line with its cells parted by tabs, each other
// block is a line. Scripts, styles and the targets of links are not read.

// htmlStarts are the elements that a page, or a part of one, begins with.
var htmlStarts = []string{"!doctype html", "html", "head", "body", "table", "thead", "tbody", "tr", "div", "p", "ul", "ol", "pre", "h1", "h2", "h3", "section", "article", "span", "meta"}

// looksHTML reports whether a text that begins with < is HTML, and not XML.
func looksHTML(in *bufio.Reader) bool {
	head, _ := in.Peek(64)
	text := strings.ToLower(strings.TrimSpace(string(head)))
	return slices.ContainsFunc(htmlStarts, func(start string) bool {
		rest, ok := strings.CutPrefix(text, "<"+start)
		return ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n>/"))
	})
}

// pageText turns HTML into lines.
type pageText struct {
	tokens *html.Tokenizer
	out    bytes.Buffer
	hidden string // the element whose text is not shown, "": none
	asIs   bool   // lines end where the source's do
	inRow  bool
	cells  int
	spaced bool // white space since the last word
	words  bool // the line has a word
}

func newPageText(in io.Reader) *pageText {
	p := &pageText{tokens: html.NewTokenizer(in)}
	p.tokens.SetMaxBuf(longest)
	return p
}

// Read reads the lines. A page that ends in the middle of an element ends there.
func (p *pageText) Read(b []byte) (int, error) {
	for p.out.Len() == 0 {
		switch p.tokens.Next() {
		case html.ErrorToken:
			if err := p.tokens.Err(); err != io.EOF {
				return 0, err
			}
			if !p.words {
				return 0, io.EOF
			}
			p.endLine()
		case html.TextToken:
			p.text(string(p.tokens.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			name, _ := p.tokens.TagName()
			p.start(string(name))
		case html.EndTagToken:
			name, _ := p.tokens.TagName()
			p.end(string(name))
		}
	}
	return p.out.Read(b)
}

// inline are the elements that do not part words.
var inline = []string{"a", "abbr", "b", "bdi", "code", "em", "font", "i", "ins", "kbd", "mark", "s", "samp", "small", "span", "strong", "sub", "sup", "tt", "u", "var", "wbr"}

func (p *pageText) start(name string) {
	switch {
	case name == "script" || name == "style" || name == "template" || name == "noscript":
		p.hidden = name
	case slices.Contains(inline, name):
	case name == "pre" || name == "textarea":
		p.endLine()
		p.asIs = true
	case p.inRow && (name == "td" || name == "th"):
		if p.cells > 0 {
			p.out.WriteByte('\t')
		}
		p.cells++
		p.spaced = false
	case name == "tr":
		p.endLine()
		p.inRow, p.cells = true, 0
	case p.inRow:
		p.spaced = true
	default:
		p.endLine()
	}
}

func (p *pageText) end(name string) {
	switch {
	case name == p.hidden:
		p.hidden = ""
	case slices.Contains(inline, name):
	case name == "pre" || name == "textarea":
		p.endLine()
		p.asIs = false
	case name == "tr" || name == "table":
		p.inRow = false
		p.endLine()
	case p.inRow:
		p.spaced = true
	default:
		p.endLine()
	}
}

func (p *pageText) endLine() {
	if p.words || p.cells > 0 {
		p.out.WriteByte('\n')
	}
	p.words, p.spaced, p.cells = false, false, 0
}

// text writes words with one space between them.
func (p *pageText) text(text string) {
	if p.hidden != "" {
		return
	}
	if line, rest, ok := strings.Cut(text, "\n"); ok && p.asIs && !p.inRow {
		p.text(line)
		p.endLine()
		p.text(rest)
		return
	}
	for i, word := range strings.Fields(text) {
		if p.spaced || i > 0 || strings.TrimLeft(text, " \t\r\n") != text {
			if b := p.out.Bytes(); p.words && (len(b) == 0 || b[len(b)-1] != '\t' && b[len(b)-1] != '\n') {
				p.out.WriteByte(' ')
			}
		}
		p.out.WriteString(word)
		p.words, p.spaced = true, false
	}
	if text != "" && strings.TrimRight(text, " \t\r\n") != text {
		p.spaced = true
	}
}
