package table

import (
	"slices"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/sqltext"
)

// refuseCounts refuses SQL over contacts that counts or averages its rows: how many there are depends on which columns the
// statement names, so that the answer would be right and mean nothing.
func refuseCounts(sql string) error {
	list, err := sqltext.Tokens(sql)
	if err != nil {
		return nil // SQLite says it better
	}
	at := slices.IndexFunc(list, func(t sqltext.Token) bool { return t.Text == "contacts" && t.Kind != sqltext.String })
	if at < 0 || list[at+1].Text == "as" { // the second is a table of the statement's own
		return nil
	}
	for i, t := range list[:max(0, len(list)-2)] {
		if list[i+1].Text != "(" {
			continue
		}
		word, argument := t.Text, list[i+2].Text
		isDistinct := argument == "distinct"
		switch {
		case word == "count" && !isDistinct, word == "avg", word == "total" && argument != "connects", word == "sum" && isDistinct:
			return input.Usagef("sum(connects) is the number of connects, sum(rows) that of the rows of connections, count(DISTINCT exe) that of programs; or ask connections",
				"%s over contacts would count its rows, which are as many as the columns that are named have combinations", word)
		}
	}
	return nil
}
