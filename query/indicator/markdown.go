package indicator

import (
	"strings"
)

// Markdown around an indicator: a link, of which the text is the indicator and the target only where to read about it; emphasis; and
// lines in the cell of a table. Slack has links and mentions of its own.
var (
	linkText   = expr(`\[([^\[\]]+)\]\([^\s()]*(?:\([^\s()]*\)[^\s()]*)*\)`)
	emphasized = expr(`(^|[\s|(])_([^\s_|]+)_($|[\s|),;:])`)
	slackLink  = expr(`<(?:[a-z]+:|#)[^|<>\s]*\|([^<>]+)>`)
	slackWord  = expr(`<[@!#][\w^-]+>`) // mentions somebody
	bold       = expr(`\*\*([^\s*|]+)\*\*`)
	cellBreak  = expr(`(?i)<br ?/?>`)
)

// withoutMarkdown returns a line without these.
func withoutMarkdown(line string) string {
	if strings.Contains(line, "](") {
		line = linkText.ReplaceAllStringFunc(line, func(link string) string {
			text := linkText.FindStringSubmatch(link)[1]
			if _, ok := readCell(text); ok {
				return text
			}
			return link
		})
	}
	if strings.Contains(line, "<") {
		line = slackWord.ReplaceAllString(slackLink.ReplaceAllString(line, "$1"), "")
	}
	if strings.Contains(line, "**") {
		line = bold.ReplaceAllString(line, "$1")
	}
	if strings.Contains(line, "_") {
		line = emphasized.ReplaceAllStringFunc(line, func(word string) string {
			parts := emphasized.FindStringSubmatch(word)
			if c, ok := readCell(parts[2]); ok && c.is(Address, Range, Hash) {
				return parts[1] + parts[2] + parts[3]
			}
			return word
		})
	}
	if strings.Contains(line, "|") && strings.Contains(line, "<") {
		line = cellBreak.ReplaceAllString(line, " ")
	}
	return line
}
