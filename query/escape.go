package query

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Text on a tape was escaped when it was written, so an honest tape holds
// nothing that needs the functions of this file. They guard against the other
// kind of tape, and against text that SQL itself makes: char(27), for one.
//
// The escapes are those of the tape: \xNN for a control character or a byte
// that is not UTF-8, \u{hex} for any other rune that is left out. Backslashes
// are not doubled, or honest text would be changed.

// Safe returns text with everything escaped that a terminal obeys, hides or
// reorders: control characters, invisible and bidirectional formatting, line and
// paragraph separators, unassigned and private runes, and bytes that are not
// UTF-8. The result is one line.
func Safe(text string) string {
	for i := range len(text) {
		if b := text[i]; b < ' ' || b > '~' {
			return string(appendSafe(nil, []byte(text), false))
		}
	}
	return text
}

// appendSafe appends text, escaped as Safe does, to dst. With layout it keeps
// newline and tab, which a quoted CSV cell may hold.
func appendSafe(dst, text []byte, layout bool) []byte {
	for len(text) > 0 {
		n := 0
		for n < len(text) && text[n] >= ' ' && text[n] <= '~' {
			n++
		}
		dst = append(dst, text[:n]...)
		if text = text[n:]; len(text) == 0 {
			break
		}
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1, r < 0x80 && (!layout || r != '\n' && r != '\t'):
			dst = fmt.Appendf(dst, `\x%02x`, text[0])
		case r < 0x80 || isShowable(r):
			dst = append(dst, text[:size]...)
		default:
			dst = fmt.Appendf(dst, `\u{%x}`, r)
		}
		text = text[size:]
	}
	return dst
}

// isShowable reports whether a rune beyond ASCII is seen as itself: it is
// graphic, and neither invisible nor a separator of lines.
func isShowable(r rune) bool {
	switch r {
	case 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0: // graphic by their category, and yet blank
		return false
	}
	if r >= 0xFE00 && r <= 0xFE0F || r >= 0x180B && r <= 0x180F || r >= 0xE0100 && r <= 0xE01EF { // variation selectors
		return false
	}
	return unicode.IsGraphic(r)
}
