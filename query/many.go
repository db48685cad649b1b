package query

import (
	"context"
	"errors"
	"strconv"

	"zombiezen.com/go/sqlite"
)

// manyWriter writes an answer with more rows than its statement returns. It counts them and checks the row limit and the
// context at each.
type manyWriter struct {
	RowWriter
	ctx   context.Context
	limit int64 // 0: none
	rows  int64
}

// errEnough ends an answer at its row limit.
var errEnough = errors.New("row limit")

// Row writes one row.
func (w *manyWriter) Row(values []Value) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if w.limit > 0 && w.rows == w.limit {
		return errEnough
	}
	w.rows++
	return w.RowWriter.Row(values)
}

// ended returns the result of the request from its statement's result.
func (w *manyWriter) ended(r Request, result Result, err error) (Result, error) {
	switch {
	case errors.Is(err, errEnough):
		result.Cut = rowLimitText(w.limit)
		err = w.End(result.Cut)
	case errors.Is(err, ErrTimeLimit):
		result.Cut = timeLimitText(r.Timeout)
		err = w.End(result.Cut)
	}
	result.Rows = w.rows
	return result, err
}

// each runs an internal query and passes on its rows.
func each(ctx context.Context, conn *sqlite.Conn, sql string, row func([]Value), params ...Value) error {
	r := Request{SQL: sql, Params: map[string]Value{}}
	for i, v := range params {
		r.Params["p"+strconv.Itoa(i+1)] = v
	}
	_, err := Run(ctx, conn, r, eachRow(func(values []Value) error { row(values); return nil }))
	return err
}

// eachRow is a RowWriter that passes each row to a function.
type eachRow func([]Value) error

// Begin does nothing.
func (eachRow) Begin([]string) error { return nil }

// Row calls the function.
func (f eachRow) Row(values []Value) error { return f(values) }

// End only fails for an incomplete answer.
func (eachRow) End(cut string) error {
	if cut != "" {
		return ErrTimeLimit
	}
	return nil
}

// writeRead writes n rows that are read while writing, up to the limit of the request or until its time is up.
func writeRead(ctx context.Context, r Request, out RowWriter, columns []string, n int, row func(i int) ([]Value, error)) (Result, error) {
	var result Result
	if err := out.Begin(columns); err != nil {
		return result, err
	}
	for i := range n {
		if limit := r.Limit; limit > 0 && result.Rows == limit {
			result.Cut = rowLimitText(limit)
			break
		}
		values, err := row(i)
		if cause := context.Cause(ctx); cause != nil {
			if cause != ErrTimeLimit {
				return result, cause
			}
			result.Cut = timeLimitText(r.Timeout)
			break
		}
		if err == nil {
			err = out.Row(values)
		}
		if err != nil {
			return result, err
		}
		result.Rows++
	}
	return result, out.End(result.Cut)
}
