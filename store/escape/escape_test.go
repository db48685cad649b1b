package escape

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"", ""},
		{"/usr/bin/curl", "/usr/bin/curl"},
		{`a\b`, `a\\b`},
		{"a\nb\x1b[31m\x7f\x00", `a\x0ab\x1b[31m\x7f\x00`},
		{"é日本🙂", "é日本🙂"},
		{"\xff\xc3", `\xff\xc3`},
		{"\xed\xa0\x80", `\xed\xa0\x80`}, // a surrogate is not UTF-8
		{"\u0085", `\u{85}`},             // C1: next line
		{"a\u202eb", `a\u{202e}b`},       // right-to-left override
		{"\u2066\u200b\ufeff", `\u{2066}\u{200b}\u{feff}`},
		{"\u00a0\u2028\u3000", `\u{a0}\u{2028}\u{3000}`},
		{"\ue000\U0010ffff", `\u{e000}\u{10ffff}`},
		{"x\ufe0f\u3164\u2800", `x\u{fe0f}\u{3164}\u{2800}`},
		{"\ufffd", "\ufffd"}, // a real replacement character is valid
		{`\x41`, `\\x41`},    // what looks like an escape is not one
	} {
		if got := Bytes([]byte(c.raw)); got != c.want {
			t.Errorf("Escape(%q) = %q, want %q", c.raw, got, c.want)
		}
		back, err := Unescape(c.want)
		if err != nil || string(back) != c.raw {
			t.Errorf("Unescape(%q) = %q, %v, want %q", c.want, back, err, c.raw)
		}
	}
}

func TestUnescapeRefuses(t *testing.T) {
	for _, bad := range []string{`\`, `\x`, `\x4`, `\xgg`, `\u`, `\u{`, `\u{}`, `\u{110000}`, `\u{d800}`, `\u{+41}`, `\n`, `\u{4_1}`, `\u{fffffffff}`} {
		if got, err := Unescape(bad); err == nil {
			t.Errorf("Unescape(%q) = %q, no error", bad, got)
		}
	}
}

// Escapes every rune: the result is visible ASCII or a visible rune.
func TestEscapeEveryRune(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		raw := []byte(string(r))
		text := Bytes(raw)
		for _, o := range text {
			if !unicode.IsPrint(o) || unicode.In(o, unicode.Cf, unicode.Co, unicode.Bidi_Control, unicode.Variation_Selector) {
				t.Fatalf("Escape(%U) = %q holds %U", r, text, o)
			}
		}
		back, err := Unescape(text)
		if err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("%U: %q comes back as %q, %v", r, text, back, err)
		}
	}
}

func TestCmdline(t *testing.T) {
	for _, c := range []struct {
		argv []string
		want string
	}{
		{nil, ""},
		{[]string{""}, `""`},
		{[]string{"curl", "-s", "http://x/"}, "curl -s http://x/"},
		{[]string{"sh", "-c", "echo 'a b'"}, `sh -c "echo 'a b'"`},
		{[]string{"a", "", `"`, `\"`, "\n"}, `a "" "\"" "\\\"" \x0a`},
		{[]string{" "}, `" "`},
	} {
		if got := Cmdline(c.argv); got != c.want {
			t.Errorf("Cmdline(%q) = %s, want %s", c.argv, got, c.want)
		}
		if got, err := SplitCmdline(c.want); err != nil || !slices.Equal(got, c.argv) {
			t.Errorf("SplitCmdline(%s) = %q, %v, want %q", c.want, got, err, c.argv)
		}
	}
	for _, bad := range []string{` `, `a `, `a  b `, `"a`, `"a"b`, `a\q`, `"\`} {
		if got, err := SplitCmdline(bad); err == nil {
			t.Errorf("SplitCmdline(%q) = %q, no error", bad, got)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		text := Bytes(raw)
		for _, r := range text {
			if r == utf8.RuneError && !bytes.Contains(raw, []byte("\ufffd")) || !unicode.IsPrint(r) {
				t.Fatalf("Escape(%q) = %q holds %U", raw, text, r)
			}
		}
		back, err := Unescape(text)
		if err != nil {
			t.Fatalf("Unescape(%q): %v", text, err)
		}
		if !bytes.Equal(back, raw) {
			t.Fatalf("%q became %q", raw, back)
		}
	})
}

func FuzzUnescape(f *testing.F) {
	f.Add(`a\x41\u{1f600}\\`)
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := Unescape(text)
		if err != nil {
			return
		}
		// Text that can be unescaped can be escaped, and unescapes to the same bytes.
		again, err := Unescape(Bytes(raw))
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%q: %q, %v", text, again, err)
		}
	})
}

func FuzzCmdline(f *testing.F) {
	f.Add("curl\x00-s\x00\x00a b\"\\")
	f.Fuzz(func(t *testing.T, joined string) {
		argv := strings.Split(joined, "\x00")
		got, err := SplitCmdline(Cmdline(argv))
		if err != nil || !slices.Equal(got, argv) {
			t.Fatalf("%q became %q, %v", argv, got, err)
		}
	})
}
