package escape

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bytes returns raw as printable text. [Unescape] is the reverse.
//
// Printable runes are kept. A backslash becomes \\. An ASCII control character, DEL, or a byte that is not valid UTF-8
// becomes \xNN, in lower case. Any other rune that is not plainly visible becomes \u{HEX}: C1 controls, bidirectional
// and other format characters, private use, unassigned, separators other than the ASCII space, and runes without a glyph
// (variation selectors, fillers). So the name of a process cannot move a cursor, reorder a line or look like a blank.
func Bytes(raw []byte) string { return String(string(raw), nil) }

// String escapes s, and as \xNN also every ASCII character for which also returns true. It returns s itself if nothing
// needs escaping.
func String(s string, also func(byte) bool) string {
	i := plainPrefix(s, also)
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	b.WriteString(s[:i])
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1, r < 0x20, r == 0x7f:
			writeByteEscape(&b, s[i])
		case r == '\\':
			b.WriteString(`\\`)
		case r < 0x80:
			if also != nil && also(byte(r)) {
				writeByteEscape(&b, s[i])
			} else {
				b.WriteByte(byte(r))
			}
		case visible(r):
			b.WriteString(s[i : i+size])
		default:
			b.WriteString(`\u{`)
			b.WriteString(strconv.FormatInt(int64(r), 16))
			b.WriteByte('}')
		}
		i += size
	}
	return b.String()
}

// plainPrefix returns the length of the ASCII prefix of s that needs no escape.
func plainPrefix(s string, also func(byte) bool) int {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x20 || c >= 0x7f || c == '\\' || also != nil && also(c) {
			return i
		}
	}
	return len(s)
}

func writeByteEscape(b *strings.Builder, c byte) {
	const hex = "0123456789abcdef"
	b.WriteString(`\x`)
	b.WriteByte(hex[c>>4])
	b.WriteByte(hex[c&15])
}

// visible reports whether a rune beyond ASCII is visible on the screen. unicode.IsPrint excludes controls, format,
// private and unassigned runes and all separators; the tables exclude the rest that renderers do not show.
func visible(r rune) bool {
	if !unicode.IsPrint(r) {
		return false
	}
	if r == 0x2800 { // braille blank: a symbol that is empty
		return false
	}
	return !unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

var errEscape = errors.New("bad escape")

// Unescape returns the bytes that [Bytes] escaped. It fails on a backslash that begins none of the three escapes.
func Unescape(text string) ([]byte, error) {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			out = append(out, text[i])
			i++
			continue
		}
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, `\\`):
			out = append(out, '\\')
			i += 2
		case strings.HasPrefix(rest, `\x`) && len(rest) >= 4 && isHex(rest[2:4]):
			n, _ := strconv.ParseUint(rest[2:4], 16, 8)
			out = append(out, byte(n))
			i += 4
		case strings.HasPrefix(rest, `\u{`):
			hex, _, ok := strings.Cut(rest[3:], "}")
			n, err := strconv.ParseUint(hex, 16, 32)
			if !ok || err != nil || !isHex(hex) || !utf8.ValidRune(rune(n)) {
				return nil, fmt.Errorf("unescape at byte %d: %w", i, errEscape)
			}
			out = utf8.AppendRune(out, rune(n))
			i += 3 + len(hex) + 1
		default:
			return nil, fmt.Errorf("unescape at byte %d: %w", i, errEscape)
		}
	}
	return out, nil
}

func isHex(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
