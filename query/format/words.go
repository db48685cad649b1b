package format

import (
	"slices"
	"strings"

	"github.com/conntape/conntape/query/input"
)

// Words of flags and arguments. A word is accepted in any case, with blanks, hyphens or underscores, in the plural, and
// under other common names. The error for an unknown word lists the known ones.

// Outcomes returns the words that the column outcome holds.
func Outcomes() []string {
	return []string{"established", "refused", "timed out", "unreachable", "reset", "aborted", "denied", "failed", "in progress", "interrupted", "already connected", "already connecting", "set", "disconnected", "unknown"}
}

// ParseOutcome reads a word of [Outcomes]. The error is a UsageError.
func ParseOutcome(text string) (string, error) {
	word, hint := ChooseWord(text, Outcomes(), map[string]string{
		"timeout": "timed out", "timedout": "timed out", "etimedout": "timed out", "econnrefused": "refused", "inprogress": "in progress", "einprogress": "in progress",
	})
	if word == "" {
		return "", input.Usagef(hint, "unknown outcome %q", text)
	}
	return word, nil
}

// Parse parses the name of an allowed output format, in any case, or a file extension. The error is a UsageError.
func Parse(text string, allowed ...string) (string, error) {
	also := map[string]string{"md": "markdown", "ndjson": "jsonl", "htm": "html", "txt": "table", "plain": "table", "column": "table"}
	if slices.Contains(allowed, "text") {
		also = map[string]string{"txt": "text", "plain": "text", "table": "text"}
	}
	format, hint := ChooseWord(text, allowed, also)
	switch {
	case format != "":
		return format, nil
	case slices.Contains([]string{"xls", "xlsx", "excel", "ods"}, plainWord(text)):
		hint = "spreadsheets open csv; " + hint
	}
	return "", input.Usagef(hint, "unknown format %q", text)
}

// ChooseWord returns the choice meant by text: itself in any spelling, or its meaning in also. If there is none it
// returns "" and a hint that lists the choices.
func ChooseWord(text string, choices []string, also map[string]string) (choice, hint string) {
	word := plainWord(text)
	for _, form := range []string{word, strings.TrimSuffix(word, "s"), strings.TrimSuffix(word, "es")} {
		for _, choice := range choices {
			if form == plainWord(choice) || also[form] == choice {
				return choice, ""
			}
		}
	}
	hint = "choose from: " + strings.Join(choices, ", ")
	if near := input.Nearest(word, choices); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return "", hint
}

// plainWord returns a word in lower case, with single blanks.
func plainWord(text string) string {
	return strings.ToLower(strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return r == ' ' || r == '-' || r == '_' || r == '\t'
	}), " "))
}
