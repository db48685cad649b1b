package query

import (
	"slices"
	"strings"
)

// tokens returns the words and signs of SQL, words in small letters, without comments. Of a text it has the quote alone, and
// of a name in quotes the name.
func tokens(sql string) []string {
	var list []string
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\ufeff")
		switch {
		case sql == "":
			return list
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql[2:], "*/")
		case sql[0] == '\'':
			_, sql = cutQuoted(sql, '\'')
			list = append(list, "'")
		case sql[0] == '"' || sql[0] == '`' || sql[0] == '[':
			var name string
			name, sql = cutQuoted(sql, map[byte]byte{'"': '"', '`': '`', '[': ']'}[sql[0]])
			list = append(list, strings.ToLower(name))
		case isNameByte(sql[0]) || sql[0] >= 0x80:
			n := strings.IndexFunc(sql, func(r rune) bool { return r < 0x80 && r != '$' && !isNameByte(byte(r)) })
			if n < 0 {
				n = len(sql)
			}
			list, sql = append(list, strings.ToLower(sql[:n])), sql[n:]
		default:
			list, sql = append(list, sql[:1]), sql[1:]
		}
	}
}

// cutQuoted cuts what is in quotes from the start of SQL; a quote that is doubled is part of it.
func cutQuoted(sql string, end byte) (inside, rest string) {
	for at := 1; at < len(sql); at++ {
		switch {
		case sql[at] != end:
		case at+1 < len(sql) && sql[at+1] == end && end != ']':
			at++
		default:
			return sql[1:at], sql[at+1:]
		}
	}
	return sql[1:], ""
}

// refuseCounts refuses SQL over contacts that counts or averages its rows: how many there are depends on which columns the
// statement names, so that the answer would be right and mean nothing.
func refuseCounts(sql string) error {
	list := tokens(sql)
	at := slices.Index(list, "contacts")
	if at < 0 || at+1 < len(list) && list[at+1] == "as" { // the second is a table of the statement's own
		return nil
	}
	for i, word := range list[:max(0, len(list)-2)] {
		if list[i+1] != "(" {
			continue
		}
		argument, isDistinct := list[i+2], list[i+2] == "distinct"
		switch {
		case word == "count" && !isDistinct, word == "avg", word == "total" && argument != "connects", word == "sum" && isDistinct:
			return usagef("sum(connects) is the number of connects, sum(rows) that of the rows of connections, count(DISTINCT exe) that of programs; or ask connections",
				"%s over contacts would count its rows, which are as many as the columns that are named have combinations", word)
		}
	}
	return nil
}
