package query

import (
	"context"
	"errors"
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
