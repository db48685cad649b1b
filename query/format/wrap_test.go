package format

import (
	"strings"
	"testing"
)

func TestWrapText(t *testing.T) {
	for _, c := range []struct {
		text          string
		width, indent int
		want          string
	}{
		{"as it is", 0, 0, "as it is"},
		{"as it is", 8, 0, "as it is"},
		{"as it is", 7, 0, "as it\nis"},
		{"label   one two three", 14, 8, "label   one\n        two\n        three"},
		{"label   a-very-long-word-that-stays two", 14, 8, "label   a-very-long-word-that-stays\n        two"},
		{"日本 日本 日本", 9, 0, "日本 日本\n日本"},
		{"two\nlines here", 5, 1, "two\nlines\n here"},
		{"", 5, 1, ""},
	} {
		if got := WrapText(c.text, c.width, c.indent); got != c.want {
			t.Errorf("%q at %d: %q, want %q", c.text, c.width, got, c.want)
		}
	}
	// Nothing is lost but blanks.
	text := strings.Repeat("word and another-one ", 20)
	if got := WrapText(text, 17, 3); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(text), " ") {
		t.Errorf("%q", got)
	}
}
