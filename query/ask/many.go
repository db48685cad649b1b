package ask

import (
	"context"
	"errors"
	"strconv"

	"github.com/conntape/conntape/query/format"
	"zombiezen.com/go/sqlite"
)

// ManyWriter writes an answer with more rows than its statement returns. It counts them and checks the row limit and the
// context at each.
type ManyWriter struct {
	format.RowWriter
	Ctx   context.Context
	Limit int64 // 0: none
	Rows  int64
}

// errEnough ends an answer at its row limit.
var errEnough = errors.New("row limit")

// Row writes one row.
func (w *ManyWriter) Row(values []format.Value) error {
	if w.Ctx.Err() != nil {
		return context.Cause(w.Ctx)
	}
	if w.Limit > 0 && w.Rows == w.Limit {
		return errEnough
	}
	w.Rows++
	return w.RowWriter.Row(values)
}

// Ended returns the result of the request from its statement's result.
func (w *ManyWriter) Ended(r Request, result Result, err error) (Result, error) {
	switch {
	case errors.Is(err, errEnough):
		result.Cut = RowLimitText(w.Limit)
		err = w.End(result.Cut)
	case errors.Is(err, ErrTimeLimit):
		result.Cut = timeLimitText(r.Timeout)
		err = w.End(result.Cut)
	}
	result.Rows = w.Rows
	return result, err
}

// Each runs an internal query and passes on its rows.
func Each(ctx context.Context, conn *sqlite.Conn, sql string, row func([]format.Value), params ...format.Value) error {
	r := Request{SQL: sql, Params: map[string]format.Value{}}
	for i, v := range params {
		r.Params["p"+strconv.Itoa(i+1)] = v
	}
	_, err := Run(ctx, conn, r, EachRow(func(values []format.Value) error { row(values); return nil }))
	return err
}

// EachRow is a RowWriter that passes each row to a function.
type EachRow func([]format.Value) error

// Begin does nothing.
func (EachRow) Begin([]string) error { return nil }

// Row calls the function.
func (f EachRow) Row(values []format.Value) error { return f(values) }

// End only fails for an incomplete answer.
func (EachRow) End(cut string) error {
	if cut != "" {
		return ErrTimeLimit
	}
	return nil
}

// WriteRows writes n rows that are read while writing, up to the limit of the request or until its time is up.
func WriteRows(ctx context.Context, r Request, out format.RowWriter, columns []string, n int, row func(i int) ([]format.Value, error)) (Result, error) {
	var result Result
	if err := out.Begin(columns); err != nil {
		return result, err
	}
	for i := range n {
		if limit := r.Limit; limit > 0 && result.Rows == limit {
			result.Cut = RowLimitText(limit)
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
