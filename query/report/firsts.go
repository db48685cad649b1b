package report

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/pairs"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store/failure"
)

// firstRow is a row of rare and first-seen: the first connect and the count.
type firstRow struct {
	first   int64
	firstIn int
	n       int64
	label   string
}

// key is the segment and the id of the first connection.
func (r firstRow) key() [2]int64 { return [2]int64{int64(r.firstIn), r.first} }

// byPair is the key of a program and a destination.
func byPair(f flow) uint64 { return pairs.Of(f.program, f.label) }

// rare answers canned/rare.sql.
func (p *Planned) rare(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	most := p.request.Params["most"].Int
	return p.writeMet(ctx, r, grouping{countsPrograms: true}, out,
		func(g *group) bool { return g.programs == 1 && g.n <= most },
		func(a, b firstRow) int {
			return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.first, b.first), cmp.Compare(a.label, b.label))
		})
}

// firstSeen answers canned/first-seen.sql.
func (p *Planned) firstSeen(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	since, by := p.window.Since.UnixNano(), grouping{}
	if p.text("by") == "pair" {
		by.key = byPair
	}
	return p.writeMet(ctx, r, by, out,
		func(g *group) bool { return g.first >= since },
		func(a, b firstRow) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.label, b.label)) })
}

// firstSQL reads first connections.
const firstSQL = `SELECT segment, id, time, pid, user, exe,
  remote,
` + shownOutcome + `,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline, ancestry, container
FROM connections`

// writeMet writes the wanted groups in order, with columns of their first connections. It groups by destination, unless by
// has another key, which ends with the destination.
func (p *Planned) writeMet(ctx context.Context, r *table.Reading, by grouping, out format.RowWriter, wanted func(*group) bool, order func(a, b firstRow) int) (ask.Result, error) {
	labels, _ := r.Labels()
	if by.key == nil {
		by.key, by.keys = func(f flow) uint64 { return uint64(f.label) }, len(labels)
	}
	all, err := p.groupBy(ctx, r, by)
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	var rows []firstRow
	for key, g := range all.each {
		if wanted(g) {
			rows = append(rows, firstRow{g.first, int(g.firstIn), g.n, labels[uint32(key)]})
		}
	}
	slices.SortFunc(rows, order)
	columns := []string{"first_time", "n", "pid", "user", "exe", "remote", "outcome", "cmdline", "ancestry"}
	return p.writeFirsts(ctx, out, columns, rows, func(i int, first []format.Value) []format.Value {
		return append([]format.Value{first[0], format.IntValue(rows[i].n)}, first[1:8]...)
	})
}

// writeFirsts writes a row for each of rows, built from the columns of firsts.
func (p *Planned) writeFirsts(ctx context.Context, out format.RowWriter, columns []string, rows []firstRow, row func(i int, first []format.Value) []format.Value) (ask.Result, error) {
	if limit := p.request.Limit; limit > 0 && int64(len(rows)) > limit {
		rows = rows[:limit+1] // one more tells that it is cut
	}
	read, most := map[[2]int64][]format.Value(nil), p.tape.Limits.Firsts
	return ask.WriteRows(ctx, p.request, out, columns, len(rows), func(i int) ([]format.Value, error) {
		if i%most == 0 {
			var err error
			if read, err = p.firsts(ctx, rows[i:min(len(rows), i+most)]); err != nil {
				return nil, err
			}
		}
		return row(i, read[rows[i].key()]), nil
	})
}

// firsts reads connections by segment and id: time, pid, user, exe, remote, outcome, cmdline,
// ancestry, container.
func (p *Planned) firsts(ctx context.Context, rows []firstRow) (map[[2]int64][]format.Value, error) {
	ids := make(map[int][]int64)
	for _, row := range rows {
		ids[row.firstIn] = append(ids[row.firstIn], row.first)
	}
	found, err := table.RowsOf(ctx, p.sources, func(s *table.Source) string {
		if list := ids[s.Number]; list != nil {
			return firstSQL + " WHERE id IN (" + table.JoinInts(list) + ")"
		}
		return ""
	})
	if err != nil {
		return nil, err
	}
	read := make(map[[2]int64][]format.Value, len(found))
	for _, row := range found {
		cells := make([]format.Value, 0, len(row)-2)
		for _, v := range row[2:] {
			cells = append(cells, table.ValueOf(v))
		}
		read[[2]int64{row[0].Int64(), row[1].Int64()}] = cells
	}
	for _, row := range rows {
		if read[row.key()] == nil {
			return nil, fmt.Errorf("read segment %d: %w: connection %d is told of, and is not there", row.firstIn, failure.ErrDamaged, row.first)
		}
	}
	return read, nil
}
