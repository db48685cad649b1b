package query

import (
	"context"
	"fmt"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

// hourNS is the length of an hour, ns: what sealing counts together.
const hourNS = int64(time.Hour)

// mostHours is how many buckets there may be: a hundred years.
const mostHours = 100 * 366 * 24

// hourTotal is a bucket of the query timeline. A hour may lie in several segments.
type hourTotal struct {
	n, failed, denied int64
	programs          map[string]bool
	places            int64             // of the segments in which the hour is neither the first nor the last
	edges             map[placeKey]bool // of the others
}

// hours are the buckets of all segments.
type hours struct {
	mu  sync.Mutex
	all map[int64]*hourTotal
}

// at returns a bucket.
func (h *hours) at(hour int64) *hourTotal {
	if h.all[hour] == nil {
		h.all[hour] = &hourTotal{programs: make(map[string]bool), edges: make(map[placeKey]bool)}
	}
	return h.all[hour]
}

// hourOfSegment is what one segment has of an hour. Connections come by remote, from
// a summary, or by time, from the rows: either way the same place in the same hour is
// told by the last one, or by a set.
type hourOfSegment struct {
	n, failed, denied int64
	programs          map[int32]bool
	places            map[int32]bool
}

// readHours counts the connections of a window by the hour.
func readHours(ctx context.Context, sources []Source, w Window, all bool) (*hours, error) {
	h := &hours{all: make(map[int64]*hourTotal)}
	return h, inParallel(ctx, sources, func(ctx context.Context, s *segmentSource) error { return h.read(ctx, s, w, all) })
}

func (h *hours) read(ctx context.Context, s *segmentSource, w Window, all bool) error {
	from, to := w.bounds()
	if s.sealed && (s.last < from || s.first >= to) {
		return nil
	}
	d, err := readDimensions(ctx, s)
	if err != nil {
		return err
	}
	counted := make(map[int64]*hourOfSegment)
	add := func(hour, remote, shape int64, who int32, n int64) {
		if d.probes && !all && d.isProbe(remote, shape) {
			return
		}
		one := counted[hour]
		if one == nil {
			one = &hourOfSegment{programs: make(map[int32]bool), places: make(map[int32]bool)}
			counted[hour] = one
		}
		one.n += n
		switch {
		case d.denied[shape]:
			one.denied += n
		case d.failed[shape]:
			one.failed += n
		}
		one.programs[who] = true
		one.places[int32(remote)] = true
	}
	if s.sealed && s.first >= from && s.last < to && !d.anonymous {
		err = scan(ctx, s.Conn, `SELECT hour, remote, shape, image, connects FROM `+s.Schema+`.traffic`, func(row *sqlite.Stmt) {
			add(row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2), d.byImage[row.ColumnInt64(3)], row.ColumnInt64(4))
		})
	} else if err = d.readTasks(ctx, s); err == nil {
		err = scan(ctx, s.Conn, fmt.Sprintf(`SELECT c.id, c.remote, c.shape, c.task, coalesce(r.count, 1) FROM %[1]s.connection c LEFT JOIN %[1]s.repeat r ON r.id = c.id
			WHERE c.id >= %[2]d AND c.id < %[3]d`, s.Schema, from, to), func(row *sqlite.Stmt) {
			add(row.ColumnInt64(0)/hourNS, row.ColumnInt64(1), row.ColumnInt64(2), d.byTask[row.ColumnInt64(3)], row.ColumnInt64(4))
		})
	}
	if err != nil {
		return err
	}
	h.merge(d, counted)
	return nil
}

// merge adds what one segment has. Only its first and its last hour may be in others
// too.
func (h *hours) merge(d *dimensions, counted map[int64]*hourOfSegment) {
	var first, last int64 = never, -never
	for hour := range counted {
		first, last = min(first, hour), max(last, hour)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for hour, one := range counted {
		total := h.at(hour)
		total.n += one.n
		total.failed += one.failed
		total.denied += one.denied
		for who := range one.programs {
			total.programs[d.actors[who].exe] = true
		}
		keys := total.edges
		if hour != first && hour != last {
			keys = make(map[placeKey]bool, len(one.places))
		}
		for remote := range one.places {
			p := d.places[int64(remote)]
			keys[placeKey{p.address, p.port}] = true
		}
		if hour != first && hour != last {
			total.places += int64(len(keys))
		}
	}
}

// writeTimeline writes what canned/timeline.sql says, for buckets of an hour.
func (p *Planned) writeTimeline(h *hours, out RowWriter) (Result, error) {
	var first, last, most int64 = never, -never, 0
	for hour, total := range h.all {
		first, last, most = min(first, hour), max(last, hour), max(most, total.n)
	}
	rows := 0
	if len(h.all) > 0 {
		rows = int(min(last-first+1, mostHours)) // of an altered tape the hours may be anything
	}
	columns := []string{"time", "n", "programs", "destinations", "failed", "denied", "bar"}
	return writeRows(out, p.request.Limit, columns, rows, func(i int) []Value {
		hour := first + int64(i)
		at := textValue(time.Unix(hour*3600, 0).UTC().Format(tapeTime))
		total := h.all[hour]
		if total == nil {
			return []Value{at, intValue(0), intValue(0), intValue(0), intValue(0), intValue(0), textValue("")}
		}
		return []Value{
			at, intValue(total.n), intValue(int64(len(total.programs))), intValue(total.places + int64(len(total.edges))),
			intValue(total.failed), intValue(total.denied), barText(total.n, most),
		}
	})
}
