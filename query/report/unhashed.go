package report

import (
	"context"
	"fmt"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
)

// Unhashed says how many programs connected whose hash is not known, and why; "" none. A list of hashes cannot find these.
// The view is limited by [store.Tape.Bound].
func Unhashed(ctx context.Context, tape *store.Tape) (string, error) {
	var programs, processes int64
	var why []string
	of := table.Of(tape)
	_, err := table.AskVirtual(ctx, of, func() (ask.Result, error) {
		return ask.Run(ctx, tape.Conn(), ask.Request{SQL: `SELECT hash_source, count(DISTINCT coalesce(exe, comm)), count(DISTINCT process_id)
			FROM connections WHERE exe_sha256 IS NULL GROUP BY hash_source ORDER BY 3 DESC, 1`}, ask.EachRow(func(row []format.Value) error {
			programs, processes = programs+row[1].Int, processes+row[2].Int
			why = append(why, fmt.Sprintf("%s: %d", row[0].Bytes, row[2].Int))
			return nil
		}))
	})
	if err != nil || processes == 0 {
		return "", err
	}
	return fmt.Sprintf("%d programs that connected, in %d processes, have no hash (%s)", programs, processes, strings.Join(why, ", ")), nil
}
