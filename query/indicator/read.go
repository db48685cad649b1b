package indicator

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is a place of a list that Read did not understand.
type Problem struct {
	Line int    // of a text; in JSON, the number of the object, in the order of the file
	Text string // raw text of the list: not safe to show
	Why  string
}

// Reading is the result of reading a list.
type Reading struct {
	Set        Set
	Format     string         // plain, csv, html, stix, misp, json, openioc, firewalld, aliases or rules
	Entries    int            // indicators read, duplicates included
	Duplicates int            // indicators that the list has twice
	LeftOut    map[string]int // number of entries that are not to be looked for, by reason
	Notes      map[string]int // number of indicators read on an assumption, by assumption
	Problems   []Problem

	leftOut int // sum of LeftOut
	besides besides
	held    int // lines whose meaning waits for the end of the list
}

// longest is the longest line or cell that is read, in bytes.
const longest = 1 << 20

// longestLabel is the limit of a label, in bytes.
const longestLabel = 200

const notIndicator = "it is no address, CIDR, port, name, path or hash"

// Read reads a list; it recognizes the format by the first bytes. It fails only if r does; a list that makes no sense
// gives problems.
func Read(r io.Reader) (*Reading, error) {
	reading := &Reading{LeftOut: make(map[string]int), Notes: make(map[string]int)}
	in := bufio.NewReaderSize(r, 64<<10)
	if why := binaryKind(in); why != "" {
		reading.problem(1, "", why)
		return reading, nil
	}
	in = decoded(in)
	first, err := firstByte(in)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read indicators: %w", err)
	case (first == '{' || first == '[') && looksJSON(in):
		err = reading.readJSON(in)
	case first == '<' && looksHTML(in):
		reading.Format = "html"
		err = reading.readText(bufio.NewReader(newPageText(in)))
	case first == '<' && looksXML(in):
		err = reading.readXML(in)
	default:
		err = reading.readText(in)
	}
	if err != nil {
		return nil, fmt.Errorf("read indicators: %w", err)
	}
	reading.settleBesides()
	return reading, nil
}

// firstByte peeks at the first byte that is not white space, 0 if there is none.
func firstByte(in *bufio.Reader) (byte, error) {
	for n := 1; ; n++ {
		head, err := in.Peek(n)
		if len(head) < n {
			if err == io.EOF || err == bufio.ErrBufferFull {
				err = nil
			}
			return 0, err
		}
		if b := head[n-1]; b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			return b, nil
		}
	}
}

// looksJSON reports whether a text that begins with a bracket or brace is JSON, and not an IPv6 address in brackets, a defanged
// address, a heading or a line of a log.
func looksJSON(in *bufio.Reader) bool {
	head, _ := in.Peek(64)
	text := strings.TrimSpace(string(head))
	inside := strings.TrimSpace(text[1:])
	if text[0] == '{' {
		return inside == "" || strings.ContainsAny(inside[:1], `"}{['`)
	}
	if deeper := strings.TrimLeft(inside, "[ \t\r\n"); deeper != "" && strings.HasPrefix(inside, "[") && !strings.ContainsAny(deeper[:1], `"{]-0123456789`) {
		return false // TOML's [[c2]]
	}
	return inside == "" || strings.ContainsAny(inside[:1], `"{[]`) && !strings.HasPrefix(inside, "].")
}

// looksXML reports whether a text that begins with < is XML, and not an address in angle brackets.
func looksXML(in *bufio.Reader) bool {
	head, _ := in.Peek(4096)
	text := strings.TrimSpace(string(head))
	for strings.HasPrefix(text, "<!--") { // a comment, perhaps of Markdown
		_, rest, ok := strings.Cut(text, "-->")
		text = strings.TrimSpace(rest)
		if ok && !strings.HasPrefix(text, "<") {
			return false
		}
	}
	inside := strings.TrimPrefix(text, "<")
	inside, _, _ = strings.Cut(inside, ">")
	_, isIndicator := Parse(inside)
	return inside != "" && !isIndicator && !strings.ContainsAny(inside, "|") && !strings.HasPrefix(text, "<http") && (inside[0] == '?' || inside[0] == '!' || inside[0] >= 'A' && inside[0] <= 'z')
}

// add adds indicators.
func (r *Reading) add(line int, label string, list ...*Indicator) {
	if len(list) > 0 && isCalledHarmless(label) {
		r.problem(line, list[0].String()+" "+label, calledHarmless)
		return
	}
	others := slices.ContainsFunc(list, func(i *Indicator) bool { return !i.isEverything() })
	for _, i := range list {
		if others && i.isEverything() {
			r.leaveOut(everything)
			continue
		}
		if i.beside {
			one := *i
			one.Port, one.beside, one.besides = 0, false, false
			r.besides.rows = append(r.besides.rows, besideRow{[]*Indicator{&one}, i.Port, i.besides, line, label})
			continue
		}
		i.Label, i.Line = cutLabel(label), line
		if i.shortened {
			r.note("a CIDR with host bits is read as the whole range")
		}
		r.Entries++
		if !r.Set.Add(i) {
			r.Duplicates++
		}
	}
}

// problem adds a place that was not understood.
func (r *Reading) problem(line int, text, why string) {
	r.Problems = append(r.Problems, Problem{line, cutLabel(text), why})
}

// leaveOut counts an entry that was understood but is not to be looked for.
func (r *Reading) leaveOut(why string) { r.LeftOut[why]++; r.leftOut++ }

// note counts an indicator that was read on an assumption.
func (r *Reading) note(what string) { r.Notes[what]++ }

// said returns the number of entries, problems and left-out entries so far. A line that does not change it was passed over.
func (r *Reading) said() int {
	return r.Entries + len(r.Problems) + r.leftOut + len(r.besides.rows) + r.held
}

// cutLabel returns a text as one line, cut at a rune.
func cutLabel(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= longestLabel {
		return text
	}
	n := longestLabel
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
