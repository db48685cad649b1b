package query

import (
	"context"
	"errors"
)

// manyWriter writes an answer that has more rows than the statement it is made of: it counts them, and ends at the row
// limit and with the context among those of one row too.
type manyWriter struct {
	RowWriter
	ctx   context.Context
	limit int64 // 0: none
	rows  int64
}

// errEnough ends an answer at its row limit.
var errEnough = errors.New("row limit")

// Row writes one of them.
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

// ended returns how the answer to a request ended, of how its statement did.
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
