package query

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

// A scan is looked for in times that overlap by half: time k is the halves k and
// k+1. The connects of a process come by time, so that only two halves of each are
// kept. What lies on the border of two segments is looked at once more, by itself.

// half is what a process did in half of the length of a scan.
type half struct {
	slot      int64 // id divided by half the length
	addresses map[string]*tried
}

// tried is what a process did to one address.
type tried struct {
	ports     []int64 // different ones; most addresses are tried on one
	n, failed int64
	first     int64
	in        int // number of the segment of the first
	remote    place
}

// scanFound is a row of the query fanout.
type scanFound struct {
	firstRow // the first connection of the time; n connects, label an example
	slot     int64
	addresses, ports,
	failed int64
}

// fanout looks for scans.
type fanout struct {
	length           int64 // of a time, ns
	addresses, ports int64 // that make a scan
	mu               sync.Mutex
	best             map[int64]scanFound // by process
}

// readAll reads the connections of a window.
func (f *fanout) readAll(ctx context.Context, sources []Source, w Window, all bool) error {
	err := inParallel(ctx, sources, func(ctx context.Context, s *segmentSource) error { return f.read(ctx, []*segmentSource{s}, w, all) })
	if err != nil {
		return err
	}
	for i := 1; i < len(sources); i++ { // the borders
		before, after := &segmentSource{Source: sources[i-1]}, &segmentSource{Source: sources[i]}
		for _, s := range []*segmentSource{before, after} {
			if err := s.describe(ctx); err != nil {
				return err
			}
		}
		var border int64
		if err := each(ctx, after.Conn, `SELECT coalesce(min(id), 0) FROM `+after.Schema+`.connection`, func(row []Value) { border = row[0].Int }); err != nil {
			return err
		}
		if border == 0 {
			continue
		}
		part := w
		part.clamp(border-2*f.length, border+2*f.length)
		if err := f.read(ctx, []*segmentSource{before, after}, part, all); err != nil {
			return err
		}
	}
	return nil
}

// read reads segments one after another.
func (f *fanout) read(ctx context.Context, segments []*segmentSource, w Window, all bool) error {
	open := make(map[int64]*[2]half)
	from, to := w.bounds()
	for _, s := range segments {
		if s.sealed && (s.last < from || s.first >= to) {
			continue
		}
		d, err := readDimensions(ctx, s)
		if err != nil {
			return err
		}
		processes := make(map[int64]int64)
		if err := each(ctx, s.Conn, `SELECT id, process FROM `+s.Schema+`.task`, func(row []Value) { processes[row[0].Int] = row[1].Int }); err != nil {
			return err
		}
		sql := fmt.Sprintf(`SELECT c.id, c.task, c.remote, c.shape, coalesce(r.count, 1) FROM %[1]s.connection c LEFT JOIN %[1]s.repeat r ON r.id = c.id
			WHERE c.id >= %[2]d AND c.id < %[3]d ORDER BY c.id`, s.Schema, from, to)
		err = scan(ctx, s.Conn, sql, func(row *sqlite.Stmt) {
			remote, shape := row.ColumnInt64(2), row.ColumnInt64(3)
			p := d.places[remote]
			if p.family != familyIPv4 && p.family != familyIPv6 || d.probes && !all && d.isProbe(remote, shape) {
				return
			}
			process := processes[row.ColumnInt64(1)]
			h := open[process]
			if h == nil {
				h = &[2]half{{slot: -1}, {slot: -1}}
				open[process] = h
			}
			failed := int64(0)
			if d.failed[shape] {
				failed = row.ColumnInt64(4)
			}
			f.add(process, h, row.ColumnInt64(0), p, row.ColumnInt64(4), failed, s.Number)
		})
		if err != nil {
			return err
		}
	}
	for process, h := range open {
		f.judge(process, h[0], h[1])
		f.judge(process, h[1], half{slot: h[1].slot + 1})
	}
	return nil
}

// add takes a connect; those of a process come by time.
func (f *fanout) add(process int64, h *[2]half, id int64, p place, n, failed int64, number int) {
	slot := id / (f.length / 2)
	if slot != h[1].slot {
		f.judge(process, h[0], h[1])
		if slot == h[1].slot+1 {
			h[0] = h[1]
		} else {
			f.judge(process, h[1], half{slot: h[1].slot + 1})
			h[0] = half{slot: slot - 1}
		}
		h[1] = half{slot: slot, addresses: make(map[string]*tried)}
	}
	a := h[1].addresses[p.address]
	if a == nil {
		a = &tried{first: id, in: number, remote: p}
		h[1].addresses[p.address] = a
	}
	a.n += n
	a.failed += failed
	if p.port >= 0 && !slices.Contains(a.ports, p.port) {
		a.ports = append(a.ports, p.port)
	}
}

// judge looks at a time that is made of two halves, and keeps it when it is the
// busiest scan of the process so far.
func (f *fanout) judge(process int64, a, b half) {
	if a.slot < 0 && b.slot < 0 || a.slot+1 != b.slot || len(a.addresses)+len(b.addresses) == 0 {
		return
	}
	found := scanFound{slot: a.slot, firstRow: firstRow{first: never}}
	var example place
	count := func(t, other *tried) {
		found.n += t.n
		found.failed += t.failed
		if t.first < found.first {
			found.first, found.firstIn, example = t.first, t.in, t.remote
		}
		ports := int64(len(t.ports))
		if other != nil {
			for _, port := range other.ports {
				if !slices.Contains(t.ports, port) {
					ports++
				}
			}
		}
		found.ports = max(found.ports, ports)
	}
	if int64(len(a.addresses)+len(b.addresses)) < f.addresses && a.tries()+b.tries() < f.ports {
		return // as nearly always
	}
	found.addresses = int64(len(a.addresses))
	for address, t := range a.addresses {
		count(t, b.addresses[address])
	}
	for address, t := range b.addresses {
		if a.addresses[address] == nil {
			found.addresses++
		}
		count(t, nil)
	}
	if found.addresses < f.addresses && found.ports < f.ports {
		return
	}
	found.label = example.label()
	f.mu.Lock()
	defer f.mu.Unlock()
	known, ok := f.best[process]
	if !ok || found.n > known.n || found.n == known.n && found.slot < known.slot {
		f.best[process] = found
	}
}

// tries returns how many ports were tried, of all addresses together.
func (h *half) tries() int64 {
	var n int64
	for _, t := range h.addresses {
		n += int64(len(t.ports))
	}
	return n
}

// clamp narrows a window to ids from and, not included, to.
func (w *Window) clamp(from, to int64) {
	if w.Since.IsZero() || w.Since.UnixNano() < from {
		w.Since = time.Unix(0, from)
	}
	if w.Until.IsZero() || w.Until.UnixNano() > to {
		w.Until = time.Unix(0, to)
	}
}

// writeFanout writes what canned/fanout.sql says.
func (p *Planned) writeFanout(ctx context.Context, f *fanout, out RowWriter) (Result, error) {
	var found []scanFound
	for _, one := range f.best {
		found = append(found, one)
	}
	var rows []firstRow
	for _, one := range found {
		rows = append(rows, one.firstRow)
	}
	details, err := p.firsts(ctx, rows)
	if err != nil {
		return Result{}, err
	}
	found = slices.DeleteFunc(found, func(one scanFound) bool { return details[[2]int64{int64(one.firstIn), one.first}] == nil })
	of := func(one scanFound) []Value { return details[[2]int64{int64(one.firstIn), one.first}] }
	slices.SortFunc(found, func(a, b scanFound) int {
		return cmp.Or(-cmp.Compare(a.n, b.n), bytes.Compare(of(a)[0].Bytes, of(b)[0].Bytes))
	})
	columns := []string{"time", "addresses", "ports", "n", "failed", "pid", "user", "container", "example", "exe", "cmdline", "ancestry"}
	return writeRows(out, p.request.Limit, columns, len(found), func(i int) []Value {
		one := found[i]
		d := of(one) // time, pid, user, exe, remote, outcome, cmdline, ancestry, container
		return []Value{d[0], intValue(one.addresses), intValue(one.ports), intValue(one.n), intValue(one.failed), d[1], d[2], d[8], textValue(one.label), d[3], d[6], d[7]}
	})
}
