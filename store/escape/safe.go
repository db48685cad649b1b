package escape

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Text on a tape is escaped when it is written, so the functions here change nothing of an honest tape. They protect
// against a forged tape, and against text made by SQL, such as char(27).
//
// The escapes are as on the tape: \xNN for a control character or a byte that is not UTF-8, \u{hex} for any other rune.
// Backslashes are not doubled, because that would change honest text.

// Safe escapes everything in text that a terminal obeys, hides or reorders: control characters, invisible and
// bidirectional formatting, line and paragraph separators, unassigned and private runes, and bytes that are not UTF-8.
// The result is one line.
func Safe(text string) string {
	for i := range len(text) {
		if b := text[i]; b < ' ' || b > '~' {
			return string(AppendSafe(nil, []byte(text), false))
		}
	}
	return text
}

// AppendSafe appends text to dst, escaped as by Safe. With layout it keeps newlines and tabs, for quoted CSV cells.
func AppendSafe(dst, text []byte, layout bool) []byte {
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
		case r < 0x80 || IsShowable(r):
			dst = append(dst, text[:size]...)
		default:
			dst = fmt.Appendf(dst, `\u{%x}`, r)
		}
		text = text[size:]
	}
	return dst
}

// IsShowable reports whether a rune beyond ASCII is visible: graphic, and no line separator.
func IsShowable(r rune) bool {
	switch r {
	case 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0: // graphic by category, but blank
		return false
	}
	if r >= 0xFE00 && r <= 0xFE0F || r >= 0x180B && r <= 0x180F || r >= 0xE0100 && r <= 0xE01EF { // variation selectors
		return false
	}
	return unicode.IsGraphic(r)
}
