package report

import (
	"context"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
)

// Unhashed returns the programs that connected whose hash is not known, by the reason, the most processes first. A question
// about hashes cannot find these. The view is limited by [store.Tape.Bound].
func Unhashed(ctx context.Context, tape *store.Tape) (all []coverage.Unhashed, err error) {
	_, err = table.RunSQL(ctx, tape, ask.Request{SQL: `SELECT hash_source, count(DISTINCT coalesce(exe, comm)), count(DISTINCT process_id)
		FROM connections WHERE exe_sha256 IS NULL GROUP BY hash_source ORDER BY 3 DESC, 1`}, ask.EachRow(func(row []format.Value) error {
		all = append(all, coverage.Unhashed{Source: string(row[0].Bytes), Programs: uint64(row[1].Int), Processes: uint64(row[2].Int)})
		return nil
	}))
	return all, err
}
