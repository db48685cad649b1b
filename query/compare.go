package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
)

// Comparison is how two tapes are compared: as canned/diff.sql compares two windows
// of one.
type Comparison struct {
	Factor  int64 // more or less by this factor is told too; 0: only what is new or gone
	All     bool  // port-0 UDP probes and AF_UNSPEC disconnects too
	Limit   int64 // most rows to write, 0 for no limit
	Timeout time.Duration
}

const pairSQL = `SELECT
  coalesce(exe, '[' || comm || ']') AS exe,
  CASE
    WHEN remote_port IS NULL THEN remote_address
    WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
    ELSE coalesce(remote_ip, remote_address) || ':' || remote_port
  END AS remote,
  sum(count) AS n, min(time) AS first_time, max(last_time) AS last_time, max(pid) AS pid
FROM connections
WHERE (:all OR family <> 'unspec' AND NOT (type = 'dgram' AND remote_port IS 0))
GROUP BY 1, 2`

// pairKey is a program and a destination.
type pairKey struct{ exe, remote string }

// pairCount is what one tape has of a pair.
type pairCount struct {
	n           int64
	first, last string
	pid         Value
}

// Compare writes what programs connected to on one tape and not on the other, or
// much more, or much less. Both are narrowed to their windows by whoever calls.
func Compare(ctx context.Context, one, other *sqlite.Conn, c Comparison, out RowWriter) (Result, error) {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, errTimeLimit)
		defer cancel()
	}
	var counted [2]map[pairKey]pairCount
	for i, conn := range []*sqlite.Conn{one, other} {
		var err error
		if counted[i], err = countPairs(ctx, conn, c.All); err != nil {
			if context.Cause(ctx) == errTimeLimit {
				return Result{}, fmt.Errorf("time limit of %s: nothing was answered in that time", c.Timeout)
			}
			return Result{}, err
		}
	}
	return writeComparison(c.judge(counted[0], counted[1]), c.Limit, out)
}

func countPairs(ctx context.Context, conn *sqlite.Conn, all bool) (map[pairKey]pairCount, error) {
	counted := make(map[pairKey]pairCount)
	r := Request{SQL: pairSQL, Params: map[string]Value{"all": {Kind: Integer, Int: int64(boolOrder(all))}}}
	_, err := Run(ctx, conn, r, eachRow(func(row []Value) error {
		counted[pairKey{string(row[0].Bytes), string(row[1].Bytes)}] = pairCount{row[2].Int, string(row[3].Bytes), string(row[4].Bytes), row[5]}
		return nil
	}))
	return counted, err
}

// judgedPair is a row of the answer.
type judgedPair struct {
	pairKey
	change    string
	n, baseN  int64
	pairCount // of the tape that has it, the first where both have
}

// judge returns what has changed, what is new first.
func (c Comparison) judge(ours, theirs map[pairKey]pairCount) []judgedPair {
	var judged []judgedPair
	for key, our := range ours {
		their, known := theirs[key]
		switch {
		case !known:
			judged = append(judged, judgedPair{key, "new", our.n, 0, our})
		case c.Factor > 0 && our.n >= c.Factor*their.n && our.n > their.n:
			judged = append(judged, judgedPair{key, "more", our.n, their.n, our})
		case c.Factor > 0 && their.n >= c.Factor*our.n && their.n > our.n:
			judged = append(judged, judgedPair{key, "less", our.n, their.n, our})
		}
	}
	for key, their := range theirs {
		if _, known := ours[key]; !known {
			judged = append(judged, judgedPair{key, "gone", 0, their.n, their})
		}
	}
	order := []string{"new", "more", "less", "gone"}
	slices.SortFunc(judged, func(a, b judgedPair) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.change), slices.Index(order, b.change)),
			-cmp.Compare(max(a.n, a.baseN), max(b.n, b.baseN)),
			cmp.Compare(a.exe, b.exe), cmp.Compare(a.remote, b.remote))
	})
	return judged
}

// writeComparison writes the rows, with the columns of canned/diff.sql.
func writeComparison(judged []judgedPair, limit int64, out RowWriter) (Result, error) {
	var result Result
	if err := out.Begin([]string{"change", "exe", "remote", "n", "base_n", "first_time", "last_time", "pid"}); err != nil {
		return result, err
	}
	text := func(s string) Value { return Value{Kind: Text, Bytes: []byte(s)} }
	for _, j := range judged {
		if limit > 0 && result.Rows == limit {
			result.Cut = rowLimitText(limit)
			break
		}
		row := []Value{text(j.change), text(j.exe), text(j.remote), {Kind: Integer, Int: j.n}, {Kind: Integer, Int: j.baseN}, text(j.first), text(j.last), j.pid}
		if err := out.Row(row); err != nil {
			return result, err
		}
		result.Rows++
	}
	return result, out.End(result.Cut)
}
