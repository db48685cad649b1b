package indicator

import (
	"strings"
	"sync"

	"golang.org/x/text/width"
)

// Reports write addresses and names so that nobody opens them by accident. There is no standard; refang undoes the
// usual forms.

// Refang undoes the defanging of one address, name or URL.
func Refang(text string) string { return refang(text) }

// refang undoes defanging: brackets or words around or instead of dots, colons and slashes; invented schemes; invisible
// characters and characters that look like ASCII.
func refang(text string) string {
	text = toASCII(text)
	if strings.ContainsAny(text, `[({\`) {
		text = bracketedColons.ReplaceAllString(brackets().Replace(text), "$1::")
	}
	if strings.Contains(text, " ") {
		text = spelled(text)
	}
	return text
}

// toASCII replaces full-width ASCII, look-alikes of the dot and the no-break space, and removes invisible characters.
func toASCII(text string) string {
	ascii := true
	for i := range len(text) {
		ascii = ascii && text[i] < 0x80
	}
	if ascii {
		return text
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '\u3002', '\uff61', '\u2024', '\ufe52': // ideographic full stops, one dot leader, small full stop
			return '.'
		case '\u00a0', '\u202f', '\u2007': // spaces that do not break
			return ' '
		case '\u200b', '\u200c', '\u200d', '\u200e', '\u200f', '\u2060', '\u2061', '\u2062', '\u2063', '\u2064', '\ufeff', '\u00ad', '\u180e':
			return -1
		case '\u2010', '\u2011', '\u2012', '\u2013', '\u2014', '\u2212':
			return '-'
		}
		if narrow := width.LookupRune(r).Narrow(); narrow != 0 && narrow < 0x80 {
			return narrow
		}
		return r
	}, text)
}

// brackets returns what undoes brackets and backslashes.
var brackets = sync.OnceValue(func() *strings.Replacer {
	var pairs []string
	for _, around := range []string{"[]", "()", "{}"} {
		for _, harmless := range [][2]string{{".", "."}, {"dot", "."}, {"DOT", "."}, {"Dot", "."}, {"punkt", "."}, {"d", "."}, {":", ":"}, {"/", "/"}, {"://", "://"}, {":/", ":/"}} {
			pairs = append(pairs, around[:1]+harmless[0]+around[1:], harmless[1], around[:1]+" "+harmless[0]+" "+around[1:], harmless[1])
		}
	}
	pairs = append(pairs, "[.", ".", ".]", ".", `\.`, ".", `\:`, ":", `:\\`, "://", `:\/\/`, "://")
	return strings.NewReplacer(pairs...)
})

var (
	bracketedColons = expr(`([0-9a-fA-F])\[::\]`)
	spacedDots      = expr(`\b([0-9]{1,3}) ?\. ?([0-9]{1,3}) ?\. ?([0-9]{1,3}) ?\. ?([0-9]{1,3})\b`)
	spelledDots     = expr(`(?i)^[\w-]+(?:\s+(?:dot|\.)\s+[\w-]+)+$`)
	dotWord         = expr(`(?i)\s+(?:dot|\.)\s+`)
)

// spelled undoes dots with spaces around them, and the word dot in a text that consists of words and dots.
func spelled(text string) string {
	if strings.Contains(text, " . ") {
		text = spacedDots.ReplaceAllString(text, "$1.$2.$3.$4")
	}
	if trimmed := strings.TrimSpace(text); spelledDots.MatchString(trimmed) {
		return dotWord.ReplaceAllString(trimmed, ".")
	}
	return text
}

// undecorated removes the quotes, brackets and bullets around a text, and the full stop after it.
func undecorated(text string) string {
	for {
		before := text
		text = strings.TrimSpace(text)
		for _, bullet := range []string{"- ", "* ", "• ", "· ", "‣ ", "> ", "+ "} {
			text = strings.TrimPrefix(text, bullet)
		}
		text = strings.TrimRight(text, ",;")
		for _, around := range []string{`""`, "''", "``", "<>", "()", "“”", "‘’", "«»", "„“"} {
			runes := []rune(around)
			if inside, ok := strings.CutPrefix(text, string(runes[0])); ok {
				if inside, ok := strings.CutSuffix(inside, string(runes[1])); ok {
					text = inside
				}
			}
		}
		if text == before {
			return text
		}
	}
}
