package query

import (
	"context"

	"github.com/conntape/conntape/store"
)

// RunSQL asks a question that somebody wrote, about the window of the views.
func RunSQL(ctx context.Context, tape *store.Tape, r Request, out RowWriter) (Result, error) {
	if s := streamOf(tape, r); s != nil {
		return s.run(ctx, r, out)
	}
	ctx, stop := withTimeLimit(ctx, r.Timeout) // for what is read beside the statement
	defer stop()
	if err := refuseCounts(r.SQL); err != nil {
		return Result{}, err
	}
	contacts, err := attachContacts(ctx, tape)
	if err != nil {
		return Result{}, err
	}
	defer func() { contacts.ctx = context.Background() }()
	result, err := askVirtual(ctx, tape, func() (Result, error) { return Run(ctx, tape.Conn(), r, out) })
	return result, contacts.explain(err)
}
