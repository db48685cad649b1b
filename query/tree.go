package query

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// A tree is a few processes with many destinations; SQL would sort both for each other. So the SQL runs for the
// processes alone, without connections, and treeWriter inserts the destinations.

// reachedRemote is a destination of a process, and the outcome.
type reachedRemote struct {
	label, outcome   string
	n                int64
	first, firstWall int64
	traffic          traffic
}

// tree answers canned/tree.sql.
func (p *Planned) tree(ctx context.Context, out RowWriter) (Result, error) {
	members, err := family(ctx, p.sources, p.request.Params["process"].Int)
	var connected map[int64][]*reachedRemote
	if err == nil {
		connected, err = p.connected(ctx, members)
	}
	if err != nil {
		return Result{}, explainLimit(ctx, p.request.Timeout, err)
	}
	if err := p.readFamily(ctx, members); err != nil {
		return Result{}, explainLimit(ctx, p.request.Timeout, err)
	}
	r := p.request
	r.Limit = 0
	r.SQL = withTable("processes AS (SELECT * FROM family)", r.SQL)
	r.SQL = withTable("connections AS (SELECT NULL AS "+strings.Join(newKnownView().columns, ", NULL AS ")+" WHERE false)", r.SQL)
	w := &treeWriter{manyWriter{RowWriter: out, ctx: ctx, limit: p.request.Limit}, connected}
	result, err := Run(ctx, p.main, r, w)
	return w.ended(r, result, err)
}

// treeProcesses are the columns of processes used by a tree.
var treeProcesses = []string{"process_id", "parent_id", "pid", "comm", "start_time", "user", "cmdline", "segment"}

// readFamily attaches rows of processes as table family.
func (p *Planned) readFamily(ctx context.Context, members map[int64]bool) error {
	sql := "SELECT " + strings.Join(treeProcesses, ", ") + " FROM processes"
	if len(members) <= mostListed {
		sql += " WHERE process_id IN (" + joinInts(slices.Collect(maps.Keys(members))) + ")"
	}
	rows, err := rowsOf(ctx, p.sources, func(*Source) string { return sql })
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(row []sqlite.Value) bool { return !members[row[0].Int64()] })
	return newRowTable(p.main, "family", treeProcesses, rows)
}

// connected returns the destinations of processes, in the order of connects.
func (p *Planned) connected(ctx context.Context, processes map[int64]bool) (map[int64][]*reachedRemote, error) {
	t, err := chooseContacts(ctx, p.sources, p.window, chooseProcesses(processes))
	if err != nil {
		return nil, err
	}
	t.ask("process_id", "family", "remote_address", "remote_port", "remote_ip", "type", "outcome", "duration_ns", "bytes_sent", "bytes_received")
	if err := t.fill(); err != nil {
		return nil, err
	}
	type remote struct {
		label            int32
		isUnspec, isZero bool
	}
	type how struct {
		outcome int32
		isDgram bool
	}
	labels, outcomes := newNames(), newNames()
	remotes, hows := make([]remote, len(t.remotes.cells)), make([]how, len(t.hows.cells))
	for i, cells := range t.remotes.cells {
		family, address, port, ip := t.cell(cells, "family"), t.cell(cells, "remote_address"), t.cell(cells, "remote_port"), t.cell(cells, "remote_ip")
		remotes[i] = remote{labels.of(remoteLabel(address, port, ip)), family.Text() == "unspec", port.Type() == sqlite.TypeInteger && port.Int64() == 0}
	}
	for i, cells := range t.hows.cells {
		hows[i] = how{outcomes.of(t.cell(cells, "outcome").Text()), t.cell(cells, "type").Text() == "dgram"}
	}
	probe := outcomes.of("name probe")
	processOf := make([]int64, len(t.tasks.cells))
	for i, cells := range t.tasks.cells {
		processOf[i] = t.cell(cells, "process_id").Int64()
	}

	type key struct {
		process        int64
		label, outcome int32
	}
	known, connected := make(map[key]*reachedRemote), make(map[int64][]*reachedRemote)
	for _, i := range t.rows.order {
		row := t.rows.at(i)
		to, how := remotes[row.remote], hows[row.how]
		isProbe := to.isZero && how.isDgram
		if (to.isUnspec || isProbe) && p.request.Params["all"].Int == 0 {
			continue
		}
		k := key{processOf[row.task], to.label, how.outcome}
		if isProbe {
			k.outcome = probe
		}
		reached := known[k]
		if reached == nil {
			reached = &reachedRemote{label: labels.list[k.label], outcome: outcomes.list[k.outcome], first: row.first, firstWall: row.firstWall}
			known[k], connected[k.process] = reached, append(connected[k.process], reached)
		}
		reached.n += row.n
		if row.traffic != nil {
			reached.traffic.merge(row.traffic)
		}
		reached.firstWall = min(reached.firstWall, row.firstWall)
	}
	for _, reached := range connected {
		for _, r := range reached {
			r.outcome = wordsOf(r.outcome, r.n, r.traffic.duration, r.traffic.sent, r.traffic.received)
		}
		slices.SortFunc(reached, func(a, b *reachedRemote) int {
			return cmp.Or(cmp.Compare(a.first, b.first), strings.Compare(a.label, b.label), strings.Compare(a.outcome, b.outcome))
		})
	}
	return connected, nil
}

// remoteLabel returns column remote of canned queries.
func remoteLabel(address, port, ip sqlite.Value) string {
	plain := ip.Text()
	switch {
	case port.Type() == sqlite.TypeNull:
		return address.Text()
	case strings.Contains(plain, ":"):
		return "[" + plain + "]:" + port.Text()
	case ip.Type() == sqlite.TypeNull:
		plain = address.Text()
	}
	return plain + ":" + port.Text()
}

// treeWriter replaces a process's row without a destination by one row per destination.
type treeWriter struct {
	manyWriter
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
func (w *treeWriter) Row(values []Value) error {
	reached := w.connected[values[treeProcess].Int]
	if len(reached) == 0 {
		return w.manyWriter.Row(values)
	}
	for _, r := range reached {
		values[treeRemote], values[treeOutcome] = textValue(r.label), textValue(r.outcome)
		values[treeN], values[treeFirstTime] = intValue(r.n), wallText(r.firstWall)
		if err := w.manyWriter.Row(values); err != nil {
			return err
		}
	}
	return nil
}
