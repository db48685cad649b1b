package format

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A scan is hundreds of rows that differ only in address or port and hide the rest of a process. So in answers with
// process and destination, the rows of a scan are folded into its first row.

const (
	// scanRows is the least number of rows, with as many destinations, to fold.
	scanRows = 10
	// mostFolded limits the rows held for folding.
	mostFolded = 100_000
)

// Folding folds scans among the rows written to it: rows that agree in everything except the address or the port, and n,
// first_time and last_time. The remaining row has the first destination with the number of others, the sum of n, and the
// first and last time.
type Folding struct {
	out     RowWriter
	columns foldedColumns
	held    []*heldRow
	folded  int64
}

// NewFolding returns a writer that folds rows and writes them to out.
func NewFolding(out RowWriter) *Folding { return &Folding{out: out} }

// Folded returns the number of rows folded into others.
func (f *Folding) Folded() int64 { return f.folded }

// foldedColumns are the indexes of the columns that differ within a scan, -1 for a missing one.
type foldedColumns struct{ remote, n, first, last int }

// heldRow is a row that may belong to a scan.
type heldRow struct {
	values        []Value
	same          string // everything in which rows of a scan agree, without address and port
	address, port string
	more          int64 // rows folded into it
	gone          bool  // folded into another
}

// Begin finds the columns.
func (f *Folding) Begin(columns []string) error {
	at := func(name string) int { return slices.Index(columns, name) }
	f.columns = foldedColumns{at("remote"), at("n"), at("first_time"), at("last_time")}
	return f.out.Begin(columns)
}

// Row holds a row back.
func (f *Folding) Row(values []Value) error {
	if f.columns.remote < 0 {
		return f.out.Row(values)
	}
	row := &heldRow{values: make([]Value, len(values))}
	var same strings.Builder
	for i, v := range values {
		v.Bytes = slices.Clone(v.Bytes)
		row.values[i] = v
		if i != f.columns.remote && i != f.columns.n && i != f.columns.first && i != f.columns.last {
			fmt.Fprintf(&same, "%d %d %v %d %s\x00", v.Kind, v.Int, v.Real, len(v.Bytes), v.Bytes)
		}
	}
	row.same = same.String()
	row.address, row.port = splitRemote(string(row.values[f.columns.remote].Bytes))
	f.held = append(f.held, row)
	if len(f.held) < mostFolded {
		return nil
	}
	return f.write()
}

// End writes the held rows.
func (f *Folding) End(cut string) error {
	if err := f.write(); err != nil {
		return err
	}
	return f.out.End(cut)
}

// write folds and writes the held rows.
func (f *Folding) write() error {
	f.fold("addresses", func(r *heldRow) string { return "port " + r.port })
	f.fold("ports", func(r *heldRow) string { return "address " + r.address })
	for _, row := range f.held {
		if row.gone {
			continue
		}
		if err := f.out.Row(row.values); err != nil {
			return err
		}
	}
	f.held = f.held[:0]
	return nil
}

// fold folds rows that differ only in the address or only in the port.
func (f *Folding) fold(counted string, shared func(*heldRow) string) {
	groups := make(map[string][]*heldRow)
	for _, row := range f.held {
		if row.port != "" && !row.gone && row.more == 0 {
			key := row.same + shared(row)
			groups[key] = append(groups[key], row)
		}
	}
	for _, rows := range groups {
		if len(rows) < scanRows {
			continue
		}
		for _, row := range rows[1:] {
			f.join(rows[0], row)
		}
		text := fmt.Sprintf("%s and %d other %s", rows[0].values[f.columns.remote].Bytes, rows[0].more, counted)
		rows[0].values[f.columns.remote] = TextValue(text)
	}
}

// join folds a row into another.
func (f *Folding) join(into, row *heldRow) {
	row.gone = true
	into.more++
	f.folded++
	if i := f.columns.n; i >= 0 {
		into.values[i].Int += row.values[i].Int
	}
	for i, isLater := range map[int]bool{f.columns.first: false, f.columns.last: true} {
		if i < 0 || row.values[i].Kind != Text {
			continue
		}
		a, b := string(into.values[i].Bytes), string(row.values[i].Bytes)
		if into.values[i].Kind != Text || (b > a) == isLater && a != b {
			into.values[i] = row.values[i]
		}
	}
}

// splitRemote splits a remote into address and port; the port is "" for a path.
func splitRemote(remote string) (address, port string) {
	i := strings.LastIndexByte(remote, ':')
	if i < 0 || strings.HasPrefix(remote, "/") || strings.HasPrefix(remote, "@") {
		return remote, ""
	}
	if _, err := strconv.ParseUint(remote[i+1:], 10, 16); err != nil {
		return remote, ""
	}
	return remote[:i], remote[i+1:]
}
