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

// met counts connects to a destination, or of a program to it.
type met struct {
	first   int64
	firstIn int32
	program int32 // one of the programs
	many    bool  // there are other programs
	n       int64
}

// add adds the counts of another segment or worker.
func (m *met) add(other *met) {
	if m.n == 0 {
		*m = *other
		return
	}
	m.n += other.n
	m.many = m.many || other.many || m.program != other.program
	if other.first < m.first || other.first == m.first && other.firstIn < m.firstIn {
		m.first, m.firstIn = other.first, other.firstIn
	}
}

// metReader merges flows by destination, or by program and destination.
type metReader struct {
	*table.Reading
	labels []int32 // of places
	pairs  bool
	table  pairs.Table // of pairs: program and label
	met    []met       // by label, or by pair
}

func (m *metReader) Begin(*table.SegmentSource, int64, int64) {}

func (m *metReader) End(*table.SegmentSource) error { return nil }

func (m *metReader) Take(s *table.SegmentSource, c *table.Contact) error {
	to := s.Place[c.Remote]
	if !m.All && m.IsProbe(to, &s.Shape[c.Shape]) {
		return nil
	}
	program := m.ProgramOf[s.Task[c.Task].Actor]
	m.at(program, m.labels[to]).add(&met{first: c.IDs[0], firstIn: int32(s.Number), program: program, n: c.N})
	return nil
}

// at returns the entry of a destination, or of a program and destination.
func (m *metReader) at(program, label int32) *met {
	if !m.pairs {
		return &m.met[label]
	}
	number, isNew := m.table.Add(pairs.Of(program, label))
	if isNew {
		m.met = append(m.met, met{})
	}
	return &m.met[number]
}

// meet counts all flows, and returns the entries that the caller wants, in no order.
func meet(ctx context.Context, r *table.Reading, byPair bool, wanted func(*met) bool) ([]firstRow, error) {
	labels, ofPlace := r.Labels()
	newMet := func() *metReader {
		m := &metReader{Reading: r, labels: ofPlace, pairs: byPair}
		if !byPair {
			m.met = make([]met, len(labels))
		}
		return m
	}
	var readers collected[*metReader]
	if err := r.Contacts(ctx, func() table.ContactReader { return readers.add(newMet()) }); err != nil {
		return nil, err
	}
	all := newMet()
	for _, m := range readers.list {
		for i := range m.met {
			if m.met[i].n == 0 {
				continue
			}
			program, label := int32(0), int32(i)
			if byPair {
				program, label = int32(m.table.Keys[i]>>32), int32(uint32(m.table.Keys[i]))
			}
			all.at(program, label).add(&m.met[i])
		}
		m.met, m.table = nil, pairs.Table{}
	}
	var rows []firstRow
	for i := range all.met {
		m := &all.met[i]
		if m.n == 0 || !wanted(m) {
			continue
		}
		label := int32(i)
		if byPair {
			label = int32(uint32(all.table.Keys[i]))
		}
		rows = append(rows, firstRow{m.first, int(m.firstIn), m.n, labels[label]})
	}
	return rows, nil
}

// rare answers canned/rare.sql.
func (p *Planned) rare(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	most := p.request.Params["most"].Int
	rows, err := meet(ctx, r, false, func(m *met) bool { return !m.many && m.n <= most })
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	slices.SortFunc(rows, func(a, b firstRow) int {
		return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.first, b.first), cmp.Compare(a.label, b.label))
	})
	return p.writeMet(ctx, rows, out)
}

// firstSeen answers canned/first-seen.sql.
func (p *Planned) firstSeen(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	since := p.window.Since.UnixNano()
	rows, err := meet(ctx, r, p.text("by") == "pair", func(m *met) bool { return m.first >= since })
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	slices.SortFunc(rows, func(a, b firstRow) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.label, b.label))
	})
	return p.writeMet(ctx, rows, out)
}

// firstSQL reads first connections.
const firstSQL = `SELECT segment, id, time, pid, user, exe,
  remote,
` + shownOutcome + `,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline, ancestry, container
FROM connections`

// writeMet writes rows with columns of their first connections.
func (p *Planned) writeMet(ctx context.Context, rows []firstRow, out format.RowWriter) (ask.Result, error) {
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
