package table

import (
	"context"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/sqltext"
	"github.com/conntape/conntape/store"
)

// cutExplain cuts EXPLAIN, or EXPLAIN QUERY PLAN, from the beginning of a statement.
func cutExplain(sql string) (explains, statement string) {
	tokens, err := sqltext.Tokens(sql)
	if err != nil || tokens[0].Text != "explain" {
		return "", sql
	}
	if len(tokens) > 3 && tokens[1].Text == "query" && tokens[2].Text == "plan" {
		return "EXPLAIN QUERY PLAN ", sql[tokens[2].To:]
	}
	return "EXPLAIN ", sql[tokens[0].To:]
}

// ExplainSQL writes how a question would be answered: which way and why, the statement that would be run, and SQLite's plan of
// it. No row of the tape is read for the plan.
func ExplainSQL(ctx context.Context, tape *store.Tape, r ask.Request, out format.RowWriter) (ask.Result, error) {
	if explains, _ := cutExplain(r.SQL); explains != "" {
		return ask.Result{}, input.Usagef("leave out EXPLAIN", "the statement explains already")
	}
	var rows [][2]string
	if s := streamOf(Of(tape), r); s != nil {
		rows = [][2]string{{"way", "rows"}, {"why", "it lists all connections: they are read from the segments as they lie there, without SQLite"}, {"statement", r.SQL}}
	} else {
		asked := r
		asked.SQL = "EXPLAIN QUERY PLAN " + r.SQL
		var plan [][2]string
		_, ran, err := runSQL(ctx, Of(tape), asked, ask.EachRow(func(row []format.Value) error {
			plan = append(plan, [2]string{"plan", string(row[3].Bytes)})
			return nil
		}))
		if err != nil {
			return ask.Result{}, err
		}
		rows = explainedWay(ran, r.SQL, contactsAdvice(tape.Conn(), r.SQL))
		rows = append(rows, plan...)
	}
	return ask.WriteRows(ctx, r, out, []string{"part", "text"}, len(rows), func(i int) ([]format.Value, error) {
		return []format.Value{format.TextValue(rows[i][0]), format.TextValue(rows[i][1])}, nil
	})
}

// explainedWay says which way was taken.
func explainedWay(ran way, sql, advice string) [][2]string {
	if ran.rows == "" {
		return [][2]string{{"way", "contacts"}, {"why", "it counts connections by columns that contacts have"}, {"statement", strings.TrimSpace(ran.sql)}}
	}
	rows := [][2]string{{"way", "rows"}, {"why", ran.rows}, {"statement", sql}}
	if advice != "" {
		rows = append(rows, [2]string{"advice", advice})
	}
	return rows
}

// isOfContacts reports whether a time of connections is used as contacts can use it too: compared, or as the first or the last.
func isOfContacts(tokens []sqltext.Token, i int) bool {
	signs := []string{"=", "==", "<", "<=", ">", ">=", "between"}
	called := ""
	if i > 1 && tokens[i-1].Text == "(" {
		called = tokens[i-2].Text + " " + tokens[i].Text
	}
	compared := slices.Contains(signs, tokens[i+1].Text) || i > 0 && slices.Contains(signs, tokens[i-1].Text)
	return compared && tokens[i].Text != "last_time" || called == "min time" || called == "max last_time"
}

// contactsAdvice returns how to ask contacts instead of connections, "" if that cannot be asked. It is tried: SQLite prepares the
// statement, and the table refuses what it cannot answer.
func contactsAdvice(conn *sqlite.Conn, sql string) string {
	tokens, err := sqltext.Tokens(sql)
	if err != nil || tokens[0].Text == "explain" {
		return ""
	}
	var edits []edit
	tables, counts := 0, 0
	for i, t := range tokens[:len(tokens)-1] {
		called := t.Kind == sqltext.Word && tokens[i+1].Text == "("
		argument := ""
		if called && i+3 < len(tokens) && tokens[i+3].Text == ")" {
			argument = tokens[i+2].Text
		}
		name := t.Text + " " + argument
		switch {
		case t.Kind == sqltext.Word && t.Text == "connections":
			if tables++; i > 0 && (tokens[i-1].Text == "from" || tokens[i-1].Text == "join" || tokens[i-1].Text == ",") {
				edits = append(edits, edit{t.From, t.To, "contacts"})
			}
		case slices.Contains([]string{"avg", "total", "group_concat", "string_agg", "over"}, t.Text) && called:
			return ""
		case name == "count *":
			counts++
			edits = append(edits, edit{t.From, tokens[i+3].To, "sum(rows)"})
		case name == "sum count":
			counts++
			edits = append(edits, edit{t.From, tokens[i+3].To, "sum(connects)"})
		case name == "sum bytes_sent", name == "sum bytes_received":
			counts++
		case name == "min time":
			edits = append(edits, edit{t.From, tokens[i+3].To, "min(first_time)"})
		case name == "max last_time":
			edits = append(edits, edit{t.From, tokens[i+3].To, "max(last_time)"})
		case t.Kind == sqltext.Word && slices.Contains([]string{"time", "time_ns", "last_time"}, t.Text) && !isOfContacts(tokens, i):
			return ""
		case called && t.Text == "count" && tokens[i+2].Text == "distinct":
			counts++
		case called && (t.Text == "count" || t.Text == "sum"):
			return ""
		}
	}
	if tables != 1 || counts == 0 || len(edits) == 0 {
		return ""
	}
	c := &counter{sql: sql, edits: edits}
	asked := c.edited()
	stmt, _, err := conn.PrepareTransient(asked)
	if err != nil || refuseCounts(asked) != nil {
		return ""
	}
	stmt.Finalize()
	return "contacts answer the same sooner: " + asked
}
