package report

import (
	"context"
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
	length := seconds * int64(time.Second)
	all, err := p.groupBy(ctx, r, grouping{slot: length, countsPrograms: true, countsLabels: true, key: func(f flow) uint64 { return uint64(f.IDs[0] / length) }})
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	var first, last, most int64 = table.Never, -table.Never, 0
	buckets := make(map[int64]*group)
	for key, g := range all.each {
		bucket := int64(key)
		buckets[bucket] = g
		first, last, most = min(first, bucket), max(last, bucket), max(most, g.n)
	}
	rows := 0
	if len(buckets) > 0 {
		rows = int(last - first + 1)
	}
	columns := []string{"time", "n", "programs", "destinations", "failed", "denied", "bar"}
	return p.writeRows(ctx, out, columns, rows, func(i int) []format.Value {
		bucket := first + int64(i)
		at := format.TextValue(time.Unix(bucket*seconds, 0).UTC().Format(format.TapeTime))
		g := buckets[bucket]
		if g == nil {
			g = &group{}
		}
		return []format.Value{at, format.IntValue(g.n), format.IntValue(int64(g.programs)), format.IntValue(int64(g.labels)), format.IntValue(g.failed - g.denied), format.IntValue(g.denied), barText(g.n, most)}
	})
}
