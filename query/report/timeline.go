package report

import (
	"context"
	"slices"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
)

// secondsOf returns the parameter seconds, limited to all of time.
func secondsOf(r ask.Request) int64 {
	if r.Params["seconds"].Kind == format.Null {
		return 3600
	}
	return min(max(r.Params["seconds"].Int, 1), 1<<33)
}

// RoundBucket returns the shortest round length, in seconds, that divides a duration into at most 48 buckets.
func RoundBucket(whole time.Duration) int64 {
	for _, length := range []int64{1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400} {
		if whole <= time.Duration(length)*48*time.Second {
			return length
		}
	}
	return 30 * 86400
}

// timeline answers canned/timeline.sql.
func (p *Planned) timeline(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	seconds := secondsOf(p.request)
	parts, err := p.groupSlots(ctx, r, seconds*int64(time.Second))
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	parts = slices.DeleteFunc(parts, func(part []slotGroup) bool { return len(part) == 0 })
	var first, most int64
	rows := 0
	if len(parts) > 0 {
		last := parts[len(parts)-1]
		first = parts[0][0].slot
		rows = int(last[len(last)-1].slot - first + 1)
	}
	for _, part := range parts {
		for i := range part {
			most = max(most, part[i].n)
		}
	}
	columns := []string{"time", "n", "programs", "destinations", "failed", "denied", "bar"}
	return p.writeRows(ctx, out, columns, rows, func(i int) []format.Value {
		bucket := first + int64(i)
		at := format.TextValue(time.Unix(bucket*seconds, 0).UTC().Format(format.TapeTime))
		g := slotGroup{}
		if parts[0][0].slot == bucket {
			if g, parts[0] = parts[0][0], parts[0][1:]; len(parts[0]) == 0 {
				parts = parts[1:]
			}
		}
		return []format.Value{at, format.IntValue(g.n), format.IntValue(int64(g.programs)), format.IntValue(int64(g.labels)), format.IntValue(g.failed - g.denied), format.IntValue(g.denied), barText(g.n, most)}
	})
}
