package format

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A word is understood however it is written, and never taken for another.
func TestParseOutcome(t *testing.T) {
	for text, want := range map[string]string{
		"refused": "refused", "REFUSED": "refused", "timed out": "timed out", "timed-out": "timed out", "Timed_Out": "timed out", "timeout": "timed out",
		"in-progress": "in progress", "set": "set", "established": "established",
		"sucess": "", "success": "", "": "", "refuse": "", "time": "", "in": "", "refused'": "", "name probe": "",
	} {
		got, err := ParseOutcome(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestParseFormat(t *testing.T) {
	for _, c := range []struct {
		text, want string
		allowed    []string
	}{
		{"JSON", "json", Names()}, {"md", "markdown", Names()}, {"ndjson", "jsonl", Names()}, {" csv ", "csv", Names()},
		{"Text", "text", []string{"text", "json"}}, {"table", "text", []string{"text", "json"}}, {"csv", "", []string{"text", "json"}},
		{"md", "", []string{"line", "jsonl"}}, {"", "", Names()}, {"xml", "", Names()},
	} {
		got, err := Parse(c.text, c.allowed...)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q of %v: got %q, %v, want %q", c.text, c.allowed, got, err, c.want)
		}
	}
}

// The outcomes are those that the view can have, in whatever order.
func TestOutcomesAreThoseOfTheView(t *testing.T) {
	schema, err := os.ReadFile("../../migrations/0001_segment.sql")
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(schema), "END AS outcome")
	if !ok {
		t.Fatal("the view has no outcome")
	}
	before = before[strings.LastIndex(before, "AS errno"):]
	var words []string
	for _, word := range regexp.MustCompile(`(?:THEN|ELSE) '([a-z ]+)'`).FindAllStringSubmatch(before, -1) {
		words = append(words, word[1])
	}
	slices.Sort(words)
	words = slices.Compact(words)
	if got := slices.Sorted(slices.Values(Outcomes())); !slices.Equal(got, words) {
		t.Errorf("got %q, the view has %q", got, words)
	}
}
