package query

import (
	"context"
	"errors"

	"zombiezen.com/go/sqlite"
)

// Export writes every connection, the oldest first, as SELECT * of the view would
// with an order by time. It asks one segment after another, for in each of them the
// rows lie in that order, where the whole view would have to be sorted first.
func Export(ctx context.Context, conn *sqlite.Conn, r Request, out RowWriter) (Result, error) {
	r.SQL = "SELECT * FROM connections ORDER BY time_ns"
	parts := viewParts(ctx, conn)
	if len(parts) < 2 {
		return Run(ctx, conn, r, out)
	}
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.Timeout, errTimeLimit)
		defer cancel()
	}
	all := &appended{RowWriter: out}
	for _, segment := range sortedKeysOf(parts) {
		one := r
		if one.Limit > 0 {
			one.Limit -= all.rows // 0 is no limit: what is beyond it is cut by the row after
			if one.Limit == 0 {
				one.Limit = -1
			}
		}
		one.SQL = narrowing{segment: ""}.apply(parts, r.SQL)
		result, err := runUpTo(ctx, conn, one, all)
		if err != nil {
			return Result{Rows: all.rows}, err
		}
		if result.Cut != "" {
			if one.Limit != 0 && !errors.Is(context.Cause(ctx), errTimeLimit) {
				result.Cut = rowLimitText(r.Limit)
			}
			return Result{Rows: all.rows, Cut: result.Cut}, out.End(result.Cut)
		}
	}
	return Result{Rows: all.rows}, out.End("")
}

// runUpTo is Run, with a limit of -1 for no row at all.
func runUpTo(ctx context.Context, conn *sqlite.Conn, r Request, out *appended) (Result, error) {
	if r.Limit >= 0 {
		return Run(ctx, conn, r, out)
	}
	r.Limit = 0
	var beyond bool
	_, err := Run(ctx, conn, r, eachRow(func([]Value) error { beyond = true; return errEnough }))
	if errors.Is(err, errEnough) {
		err = nil
	}
	if beyond {
		return Result{Cut: rowLimitText(0)}, err
	}
	return Result{}, err
}

// appended writes several answers as one.
type appended struct {
	RowWriter
	begun bool
	rows  int64
}

// Begin begins with the first answer.
func (a *appended) Begin(columns []string) error {
	if a.begun {
		return nil
	}
	a.begun = true
	return a.RowWriter.Begin(columns)
}

// Row writes a row of any of them.
func (a *appended) Row(values []Value) error {
	a.rows++
	return a.RowWriter.Row(values)
}

// End is left to who knows which answer is the last.
func (*appended) End(string) error { return nil }
