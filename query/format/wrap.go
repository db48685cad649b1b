package format

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// WrapText wraps lines at width, between words, and indents the continuation. Width 0 means no wrapping; a word that is
// too wide stays whole, so that it can be copied.
func WrapText(lines string, width, indent int) string {
	if width <= 0 {
		return lines
	}
	var b strings.Builder
	for i, line := range strings.Split(lines, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		wrapLine(&b, line, width, indent)
	}
	return b.String()
}

// wrapLine writes one line as several.
func wrapLine(b *strings.Builder, line string, width, indent int) {
	if text.StringWidthWithoutEscSequences(line) <= width {
		b.WriteString(line)
		return
	}
	used := 0
	for line != "" {
		blanks := len(line) - len(strings.TrimLeft(line, " "))
		end := blanks + strings.IndexByte(line[blanks:]+" ", ' ')
		word := line[:end]
		n := text.StringWidthWithoutEscSequences(word)
		if used > indent && used+n > width {
			b.WriteString("\n" + strings.Repeat(" ", indent))
			used, word = indent, word[blanks:]
			n -= blanks
		}
		b.WriteString(word)
		used, line = used+n, line[end:]
	}
}
