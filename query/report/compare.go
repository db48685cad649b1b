package report

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/pairs"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
)

// Comparison says how to compare two tapes, as canned/diff.sql compares two windows.
type Comparison struct {
	Factor  int64 // report changes by this factor or more; 0: only new and gone pairs
	All     bool  // port-0 UDP probes and AF_UNSPEC disconnects too
	Filter  Filter
	Limit   int64 // most rows to write, 0 for no limit
	Timeout time.Duration
}

// Compared is one side of a comparison: the connections of a tape in a window.
type Compared struct {
	Tape   *store.Tape
	Window input.Window
}

// Compare writes the programs and destinations that only one tape has, or that one has much more often.
func Compare(ctx context.Context, one, other Compared, c Comparison, out format.RowWriter) (ask.Result, error) {
	p := &Planned{request: ask.Request{Limit: c.Limit, Timeout: c.Timeout}, tape: table.Of(one.Tape)}
	limited, stop := ask.WithTimeLimit(ctx, c.Timeout)
	defer stop()
	if !c.Filter.IsEmpty() {
		return p.compareFiltered(limited, [2]Compared{one, other}, c, out)
	}
	n := table.NewNumbers()
	var sides [2]*table.Reading
	for i, side := range []Compared{one, other} {
		var err error
		if sides[i], err = n.NewReading(limited, table.Of(side.Tape).Sources(), side.Window, c.All); err != nil {
			return ask.Result{}, ask.ExplainLimit(limited, p.request.Timeout, err)
		}
	}
	return p.compare(limited, sides, c.Factor, out)
}

// diff answers canned/diff.sql.
func (p *Planned) diff(ctx context.Context, out format.RowWriter) (ask.Result, error) {
	windows, err := p.windows(ctx)
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	if windows == nil {
		return ask.Run(ctx, p.main, p.request, out)
	}
	from, to := min(windows[0].From, windows[1].From), max(windows[0].To, windows[1].To)
	whole := input.Window{Since: time.Unix(0, from), Until: time.Unix(0, to)}
	r, err := table.NewNumbers().NewReading(ctx, p.sources, whole, p.request.Params["all"].Int != 0)
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	sides := [2]*table.Reading{r.Between(windows[0]), r.Between(windows[1])}
	return p.compare(ctx, sides, p.request.Params["factor"].Int, out)
}

// windows runs canned/diff.sql for the two windows. It returns nil if a window has no end, as on a tape without
// connections.
func (p *Planned) windows(ctx context.Context) ([]table.IDSpan, error) {
	request := p.request
	request.SQL = p.canned.tables() + "SELECT since, until, base_since, base_until FROM bound"
	var windows []table.IDSpan
	_, err := ask.Run(ctx, p.main, request, ask.EachRow(func(row []format.Value) error {
		for i := 0; i < 4; i += 2 {
			if row[i].Kind != format.Integer || row[i+1].Kind != format.Integer {
				windows = nil
				break
			}
			windows = append(windows, table.IDSpan{From: row[i].Int, To: row[i+1].Int})
		}
		return nil
	}))
	return windows, err
}

// pairRow counts the connects of a program to a destination in two windows.
type pairRow struct {
	n                   [2]int64 // connects in each
	firstWall, lastWall int64    // in either
	pid                 int64    // the highest
}

// add adds the counts of another segment or worker.
func (row *pairRow) add(other *pairRow) {
	if row.n == [2]int64{} {
		*row = *other
		return
	}
	row.n[0] += other.n[0]
	row.n[1] += other.n[1]
	row.firstWall, row.lastWall = min(row.firstWall, other.firstWall), max(row.lastWall, other.lastWall)
	row.pid = max(row.pid, other.pid)
}

// changes are in answer order.
var changes = []string{"new", "more", "less", "gone"}

// change returns the index of the pair's change, -1 for none.
func (row *pairRow) change(factor int64) int {
	n, base := row.n[0], row.n[1]
	switch {
	case base == 0:
		return 0
	case n == 0:
		return 3
	case factor > 0 && n > base && n/base >= factor:
		return 1
	case factor > 0 && base > n && base/n >= factor:
		return 2
	}
	return -1
}

// compare writes the differences between two readings that share a dictionary.
func (p *Planned) compare(ctx context.Context, sides [2]*table.Reading, factor int64, out format.RowWriter) (ask.Result, error) {
	labels, _ := sides[0].Labels()
	var numbers pairs.Table
	var rows []pairRow
	for i, r := range sides {
		side, err := p.groupBy(ctx, r, grouping{key: byPair, tellsTimes: true})
		if err != nil {
			return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
		}
		for key, g := range side.each {
			number, isNew := numbers.Add(key)
			if isNew {
				rows = append(rows, pairRow{})
			}
			row := pairRow{firstWall: g.firstWall, lastWall: g.lastWall, pid: g.pid}
			row.n[i] = g.n
			rows[number].add(&row)
		}
	}
	name := func(i int) pairName {
		return pairName{sides[0].Programs.List[numbers.Keys[i]>>32], labels[uint32(numbers.Keys[i])]}
	}
	return p.writeChanges(ctx, rows, name, factor, out)
}

// pairName is a program and a destination as an answer shows them.
type pairName struct{ exe, remote string }

// compareFiltered compares filtered connections by SQL: flows do not have all columns of a filter.
func (p *Planned) compareFiltered(ctx context.Context, sides [2]Compared, c Comparison, out format.RowWriter) (ask.Result, error) {
	var rows []pairRow
	var names []pairName
	numbers := make(map[pairName]int)
	for i, side := range sides {
		request, err := c.Filter.Apply(ask.Request{SQL: pairsSQL, Params: map[string]format.Value{"all": format.IntValue(int64(format.ZeroOrOne(c.All)))}})
		if err != nil {
			return ask.Result{}, err
		}
		since, until := side.Tape.Bounds()
		side.Tape.Bound(side.Window.Since, side.Window.Until)
		_, err = table.RunSQL(ctx, side.Tape, request, ask.EachRow(func(row []format.Value) error {
			name := pairName{string(row[0].Bytes), string(row[1].Bytes)}
			number, known := numbers[name]
			if !known {
				number = len(rows)
				numbers[name], names, rows = number, append(names, name), append(rows, pairRow{})
			}
			pair := pairRow{firstWall: row[3].Int, lastWall: row[4].Int, pid: row[5].Int}
			pair.n[i] = row[2].Int
			rows[number].add(&pair)
			return nil
		}))
		side.Tape.Bound(since, until)
		if err != nil {
			return ask.Result{}, ask.ExplainLimit(ctx, c.Timeout, err)
		}
	}
	return p.writeChanges(ctx, rows, func(i int) pairName { return names[i] }, c.Factor, out)
}

// pairsSQL lists each program with each of its destinations.
const pairsSQL = `SELECT coalesce(exe, '[' || comm || ']'),
	remote, sum(count), ns(min(time)), ns(max(last_time)), max(pid)
FROM connections
WHERE :all OR NOT probe AND family IS NOT 'unspec'
GROUP BY 1, 2`

// writeChanges writes the pairs that differ between the two sides.
func (p *Planned) writeChanges(ctx context.Context, pairs []pairRow, name func(i int) pairName, factor int64, out format.RowWriter) (ask.Result, error) {
	type judged struct{ pair, change int }
	var rows []judged
	for i := range pairs {
		if change := pairs[i].change(factor); change >= 0 {
			rows = append(rows, judged{i, change})
		}
	}
	slices.SortFunc(rows, func(a, b judged) int {
		return cmp.Or(
			cmp.Compare(a.change, b.change),
			-cmp.Compare(slices.Max(pairs[a.pair].n[:]), slices.Max(pairs[b.pair].n[:])),
			cmp.Compare(name(a.pair).exe, name(b.pair).exe), cmp.Compare(name(a.pair).remote, name(b.pair).remote))
	})
	return p.writeRows(ctx, out, []string{"change", "exe", "remote", "n", "base_n", "first_time", "last_time", "pid"}, len(rows), func(i int) []format.Value {
		row, name := &pairs[rows[i].pair], name(rows[i].pair)
		return []format.Value{
			format.TextValue(changes[rows[i].change]), format.TextValue(name.exe), format.TextValue(name.remote), format.IntValue(row.n[0]), format.IntValue(row.n[1]),
			format.WallText(row.firstWall), format.WallText(row.lastWall), format.IntValue(row.pid),
		}
	})
}
