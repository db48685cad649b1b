package indicator

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Problem is a place of a list that was not understood.
type Problem struct {
	Line int    // of a text; in JSON, the number of the object, counted as they come
	Text string // what stands there, as it is: not safe to show
	Why  string
}

// Reading is a list that was read.
type Reading struct {
	Set        Set
	Format     string         // plain, csv, stix, misp, json, openioc or rules
	Entries    int            // indicators that were understood, those that came twice included
	Duplicates int            // of them: had been read already
	LeftOut    map[string]int // understood, and no indicator: how many, by reason
	Notes      map[string]int // read, but on an assumption: how many, by what was assumed
	Problems   []Problem

	leftOut int // sum of LeftOut
}

// longest is the longest line, and the longest cell, that is read.
const longest = 1 << 20

// longestLabel is how much is kept of what a list says of an indicator, in bytes.
const longestLabel = 200

// notIndicator is the reason for a text that is of no kind.
const notIndicator = "it is no address, CIDR, port, name, path or hash"

// Read reads a list, and tells by its beginning which format it has. The error is
// one of reading; a list that makes no sense is a list of problems.
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
	case first == '{' || first == '[' && looksJSON(in):
		err = reading.readJSON(in)
	case first == '<' && looksXML(in):
		err = reading.readXML(in)
	default:
		err = reading.readText(in)
	}
	if err != nil {
		return nil, fmt.Errorf("read indicators: %w", err)
	}
	return reading, nil
}

// firstByte returns the first byte that is no white space and leaves it there, 0
// when there is none.
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

// looksJSON reports whether what begins with a bracket is JSON, and not an IPv6
// address in brackets, a defanged address or the heading of a list.
func looksJSON(in *bufio.Reader) bool {
	head, _ := in.Peek(64)
	inside := strings.TrimSpace(strings.TrimSpace(string(head))[1:])
	return inside == "" || strings.ContainsAny(inside[:1], `"{[]`) && !strings.HasPrefix(inside, "].")
}

// looksXML reports whether what begins with < is XML, and not an address in angle
// brackets.
func looksXML(in *bufio.Reader) bool {
	head, _ := in.Peek(64)
	inside := strings.TrimSpace(string(head))[1:]
	inside, _, _ = strings.Cut(inside, ">")
	_, isIndicator := Parse(inside)
	return inside != "" && !isIndicator && (inside[0] == '?' || inside[0] == '!' || inside[0] >= 'A' && inside[0] <= 'z')
}

// add takes indicators that were understood.
func (r *Reading) add(line int, label string, list ...*Indicator) {
	for _, i := range list {
		i.Label, i.Line = cutLabel(label), line
		if i.shortened {
			r.note("a CIDR with bits beyond its length is read as the whole range")
		}
		r.Entries++
		if !r.Set.Add(i) {
			r.Duplicates++
		}
	}
}

// problem takes a place that was not.
func (r *Reading) problem(line int, text, why string) {
	r.Problems = append(r.Problems, Problem{line, cutLabel(text), why})
}

// leaveOut counts what was understood and is nothing to look for.
func (r *Reading) leaveOut(why string) { r.LeftOut[why]++; r.leftOut++ }

// note counts an indicator that was read on an assumption.
func (r *Reading) note(what string) { r.Notes[what]++ }

// said returns how much was said so far. It grows with each line that is not silent.
func (r *Reading) said() int { return r.Entries + len(r.Problems) + r.leftOut }

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
