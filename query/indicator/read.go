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
	Format     string         // plain, csv, stix, misp or json
	Entries    int            // indicators that were understood, those that came twice included
	Duplicates int            // of them: had been read already
	LeftOut    map[string]int // understood, and no indicator: how many, by reason
	Problems   []Problem
}

// longest is the longest line, and the longest cell, that is read.
const longest = 1 << 20

// longestLabel is how much is kept of what a list says of an indicator, in bytes.
const longestLabel = 200

// Read reads a list, and tells by its beginning which format it has. The error is
// one of reading; a list that makes no sense is a list of problems.
func Read(r io.Reader) (*Reading, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	reading := &Reading{LeftOut: make(map[string]int)}
	if mark, err := in.Peek(3); err == nil && string(mark) == "\ufeff" {
		in.Discard(3)
	}
	first, err := firstByte(in)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read indicators: %w", err)
	case first == '{' || first == '[' && !looksPlain(in):
		err = reading.readJSON(in)
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

// looksPlain reports whether what begins with a bracket is an IPv6 address in
// brackets and no JSON.
func looksPlain(in *bufio.Reader) bool {
	head, _ := in.Peek(64)
	inside, _, ok := strings.Cut(strings.TrimSpace(string(head))[1:], "]")
	return ok && strings.Count(inside, ":") > 1 && !strings.ContainsAny(inside, `"{[`)
}

// add takes an indicator that was understood.
func (r *Reading) add(i *Indicator, label string, line int) {
	i.Label, i.Line = cutLabel(label), line
	r.Entries++
	if !r.Set.Add(i) {
		r.Duplicates++
	}
}

// problem takes a place that was not.
func (r *Reading) problem(line int, text, why string) {
	r.Problems = append(r.Problems, Problem{line, cutLabel(text), why})
}

// leaveOut counts what was understood and is nothing to look for.
func (r *Reading) leaveOut(why string) { r.LeftOut[why]++ }

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
