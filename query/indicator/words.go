package indicator

import (
	"slices"
	"strings"
	"unicode"
)

// words are words of one meaning, or those of a name.
type words []string

func (w words) has(word string) bool { return slices.Contains(w, word) }

// hasAny reports whether one of the words is in a list.
func (w words) hasAny(list ...string) bool { return slices.ContainsFunc(w, words(list).has) }

// only reports whether there are words, and all are in a list.
func (w words) only(list ...string) bool {
	return len(w) > 0 && !slices.ContainsFunc(w, func(word string) bool { return !slices.Contains(list, word) })
}

// partsOf splits a text at any of these characters.
func partsOf(text, at string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(at, r) })
}

// wordsOf splits a name such as destination.ip, dstIP, IP-Adresse or srcip into words.
func wordsOf(name string) words {
	var all words
	var word strings.Builder
	end := func() {
		if word.Len() > 0 {
			all = append(all, strings.ToLower(word.String()))
			word.Reset()
		}
	}
	lower := false
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			end()
			lower = false
			continue
		}
		if unicode.IsUpper(r) && lower {
			end()
		}
		lower = unicode.IsLower(r)
		word.WriteRune(r)
	}
	end()
	var parted words
	for _, w := range all {
		parted = append(parted, glued(w)...)
	}
	return parted
}

// glued splits a word made of two: dstip, srcport, startip.
func glued(word string) []string {
	for _, tail := range []string{"ipaddress", "ipaddr", "address", "addr", "ip", "port", "range"} {
		head, ok := strings.CutSuffix(word, tail)
		if ok && slices.Contains([]string{"dst", "dest", "destination", "src", "source", "remote", "local", "server", "client", "start", "end", "begin", "first",
			"last", "from", "to", "ip", "c2", "bad", "malicious", "attacker", "host", "network", "target", "mac", "email", "d", "s"}, head) {
			if head == "s" {
				head = "src"
			}
			return []string{head, tail}
		}
	}
	return []string{word}
}
