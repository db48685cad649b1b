package report

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
	"zombiezen.com/go/sqlite"
)

// A tree is a few processes with many destinations; SQL would sort both for each other. So the SQL runs for the
// processes alone, without connections, and treeWriter inserts the destinations.

// reachedRemote is a destination of a process, and the outcome.
type reachedRemote struct {
	label, outcome   string
	n                int64
	first, firstWall int64
	traffic          table.Traffic
}

// tree answers canned/tree.sql.
func (p *Planned) tree(ctx context.Context, out format.RowWriter) (ask.Result, error) {
	members, err := table.Family(ctx, p.sources, p.request.Params["process"].Int)
	var connected map[int64][]*reachedRemote
	if err == nil {
		connected, err = p.connected(ctx, members)
	}
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	if err := p.readFamily(ctx, members); err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	r := p.request
	r.Limit = 0
	r.SQL = withTable("processes AS (SELECT * FROM family)", r.SQL)
	r.SQL = withTable("connections AS (SELECT NULL AS "+strings.Join(table.NewKnownView().Columns, ", NULL AS ")+" WHERE false)", r.SQL)
	w := &treeWriter{ask.ManyWriter{RowWriter: out, Ctx: ctx, Limit: p.request.Limit}, connected}
	result, err := ask.Run(ctx, p.main, r, w)
	return w.Ended(r, result, err)
}

// treeProcesses are the columns of processes used by a tree.
var treeProcesses = []string{"process_id", "parent_id", "pid", "comm", "start_time", "user", "cmdline", "segment"}

// readFamily attaches rows of processes as table family.
func (p *Planned) readFamily(ctx context.Context, members map[int64]bool) error {
	sql := "SELECT " + strings.Join(treeProcesses, ", ") + " FROM processes"
	if len(members) <= p.tape.Limits.Listed {
		sql += " WHERE process_id IN (" + table.JoinInts(slices.Collect(maps.Keys(members))) + ")"
	}
	rows, err := table.RowsOf(ctx, p.sources, func(*table.Source) string { return sql })
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(row []sqlite.Value) bool { return !members[row[0].Int64()] })
	return table.NewRowTable(p.main, "family", treeProcesses, rows)
}

// connected returns the destinations of processes, in the order of connects.
func (p *Planned) connected(ctx context.Context, processes map[int64]bool) (map[int64][]*reachedRemote, error) {
	t, err := table.ChooseContacts(ctx, p.sources, p.window, table.ChooseProcesses(processes))
	if err != nil {
		return nil, err
	}
	t.Ask("process_id", "family", "remote", "probe", "outcome", "duration_ns", "bytes_sent", "bytes_received")
	if err := t.Fill(); err != nil {
		return nil, err
	}
	type remote struct {
		label    int32
		isUnspec bool
	}
	type how struct {
		outcome int32
		isProbe bool
	}
	labels, outcomes := table.NewNames(), table.NewNames()
	remotes, hows := make([]remote, len(t.Remotes.Cells)), make([]how, len(t.Hows.Cells))
	for i, cells := range t.Remotes.Cells {
		remotes[i] = remote{labels.Of(t.Cell(cells, "remote").Text()), t.Cell(cells, "family").Text() == "unspec"}
	}
	for i, cells := range t.Hows.Cells {
		hows[i] = how{outcomes.Of(t.Cell(cells, "outcome").Text()), t.Cell(cells, "probe").Int64() != 0}
	}
	probe := outcomes.Of("name probe")
	processOf := make([]int64, len(t.Tasks.Cells))
	for i, cells := range t.Tasks.Cells {
		processOf[i] = t.Cell(cells, "process_id").Int64()
	}

	type key struct {
		process        int64
		label, outcome int32
	}
	known, connected := make(map[key]*reachedRemote), make(map[int64][]*reachedRemote)
	for _, i := range t.Rows.Order {
		row := t.Rows.At(i)
		to, how := remotes[row.Remote], hows[row.How]
		if (to.isUnspec || how.isProbe) && p.request.Params["all"].Int == 0 {
			continue
		}
		k := key{processOf[row.Task], to.label, how.outcome}
		if how.isProbe {
			k.outcome = probe
		}
		reached := known[k]
		if reached == nil {
			reached = &reachedRemote{label: labels.List[k.label], outcome: outcomes.List[k.outcome], first: row.First, firstWall: row.FirstWall}
			known[k], connected[k.process] = reached, append(connected[k.process], reached)
		}
		reached.n += row.N
		if row.Traffic != nil {
			reached.traffic.Merge(row.Traffic)
		}
		reached.firstWall = min(reached.firstWall, row.FirstWall)
	}
	for _, reached := range connected {
		for _, r := range reached {
			r.outcome = format.OutcomeInWords(r.outcome, r.n, r.traffic.Duration, r.traffic.Sent, r.traffic.Received)
		}
		slices.SortFunc(reached, func(a, b *reachedRemote) int {
			return cmp.Or(cmp.Compare(a.first, b.first), strings.Compare(a.label, b.label), strings.Compare(a.outcome, b.outcome))
		})
	}
	return connected, nil
}

// treeWriter replaces a process's row without a destination by one row per destination.
type treeWriter struct {
	ask.ManyWriter
	connected map[int64][]*reachedRemote // by process
}

// Columns of a tree with the destination; process_id is the last column.
const (
	treeRemote = 5 + iota
	treeOutcome
	treeN
	treeFirstTime
	treeProcess
)

// Row writes the rows of one process.
func (w *treeWriter) Row(values []format.Value) error {
	reached := w.connected[values[treeProcess].Int]
	if len(reached) == 0 {
		return w.ManyWriter.Row(values)
	}
	for _, r := range reached {
		values[treeRemote], values[treeOutcome] = format.TextValue(r.label), format.TextValue(r.outcome)
		values[treeN], values[treeFirstTime] = format.IntValue(r.n), format.WallText(r.firstWall)
		if err := w.ManyWriter.Row(values); err != nil {
			return err
		}
	}
	return nil
}
