package table

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
)

// RunSQL asks a question that somebody wrote, about the window of the views. One that counts connections is asked of contacts,
// if the answer is the same: see counting.go.
func RunSQL(ctx context.Context, tape *store.Tape, r ask.Request, out format.RowWriter) (ask.Result, error) {
	return Of(tape).RunSQL(ctx, r, out)
}

// RunSQL asks a question within the tape's limits.
func (tape *Tape) RunSQL(ctx context.Context, r ask.Request, out format.RowWriter) (ask.Result, error) {
	if s := streamOf(tape, r); s != nil {
		return s.Run(ctx, r, out)
	}
	ctx, stop := ask.WithTimeLimit(ctx, r.Timeout) // for what is read beside the statement
	defer stop()
	result, _, err := runSQL(ctx, tape, r, out)
	return result, err
}

// runSQL does so, and returns the statement that was run over contacts, or why there is none.
func runSQL(ctx context.Context, tape *Tape, r ask.Request, out format.RowWriter) (result ask.Result, ran way, err error) {
	if err := refuseCounts(r.SQL); err != nil {
		return result, ran, err
	}
	contacts, err := attachContacts(ctx, tape)
	if err != nil {
		return result, ran, err
	}
	defer func() { contacts.ctx = context.Background() }()
	result, err = AskVirtual(ctx, tape, func() (ask.Result, error) {
		counted, why := runCounted(ctx, tape, r, out, &ran)
		var rows *byRows
		if !errors.As(why, &rows) {
			return counted, why
		}
		ran = way{rows: rows.why, sql: r.SQL}
		started := time.Now()
		result, err := ask.Run(ctx, tape.Conn(), r, out)
		if err == nil && time.Since(started) > slowAnswer {
			result.Advice = contactsAdvice(tape.Conn(), r.SQL)
		}
		return result, err
	})
	return result, ran, contacts.explain(err)
}

// way is how a statement was answered: what was run, and why over the rows of connections, "": over contacts.
type way struct{ sql, rows string }

// slowAnswer is how long an answer takes of which it is said that contacts are faster.
const slowAnswer = 2 * time.Second

// runCounted asks a statement of contacts. The error is a *byRows if that cannot be done, and nothing was written.
func runCounted(ctx context.Context, tape *Tape, r ask.Request, out format.RowWriter, ran *way) (ask.Result, error) {
	explains, sql := cutExplain(r.SQL)
	counted, by, err := countedSQL(sql)
	if err != nil {
		return ask.Result{}, err
	}
	view := &contactView{ctx: ctx, tape: tape, columns: contactColumns(true), counted: true, by: by}
	if err := view.attach(countedTable); err != nil {
		return ask.Result{}, err
	}
	defer func() { view.ctx = context.Background() }()
	*ran = way{sql: counted}
	as := &renamedWriter{RowWriter: out}
	if explains == "" {
		if as.columns, err = headerOf(tape, r); err != nil {
			return ask.Result{}, rowsBecause("SQLite refuses it") // which Run says better
		}
	}
	asked := r
	asked.SQL = explains + counted
	result, err := ask.Run(ctx, tape.Conn(), asked, as)
	if err == nil || as.begun {
		return result, err
	}
	var usage *input.UsageError
	var rows *byRows
	switch err = view.explain(err); {
	case errors.As(err, &rows):
		return result, err
	case strings.Contains(err.Error(), "no query solution"):
		return result, rowsBecause("it compares time to what is not the same for all connections")
	case errors.As(err, &usage):
		return result, rowsBecause("%v", err)
	}
	return result, err
}

// headerOf returns the columns of the answer to a question.
func headerOf(tape *Tape, r ask.Request) ([]string, error) {
	conn := tape.Conn()
	functions := &ask.Functions{Clock: r.Clock, Stop: func(error) {}}
	if err := functions.Add(conn); err != nil {
		return nil, err
	}
	stmt, err := ask.Prepare(conn, r.SQL)
	if err != nil {
		return nil, err
	}
	defer stmt.Finalize()
	return ask.ColumnNames(conn, stmt, r.SQL), nil
}

// renamedWriter gives the columns of an answer the names of another statement's.
type renamedWriter struct {
	format.RowWriter
	columns []string // nil: the names are right
	begun   bool
}

// Begin begins the answer.
func (w *renamedWriter) Begin(columns []string) error {
	w.begun = true
	if w.columns != nil {
		columns = w.columns
	}
	return w.RowWriter.Begin(columns)
}
