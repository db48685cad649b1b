package query

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"zombiezen.com/go/sqlite"
)

// beat is the connects of a pair in one segment: the last of each second that has
// any, as differences, so that ten million of them stay small.
type beats struct {
	first, last int64 // ids of the first and of the last row
	n           int64
	end         int64 // when the last connect was that a row stands for
	second      int64 // of the beat that is not written yet
	pending     int64 // its time
	written     int64 // time of the last that is
	gaps        []byte
}

// add takes a connect; they come by time.
func (b *beats) add(id int64) {
	second := id / 1_000_000_000
	if b.n == 0 {
		b.first, b.second = id, second
	} else if second != b.second {
		b.flush()
		b.second = second
	}
	b.pending, b.last, b.end = id, id, id
	b.n++
}

// flush writes the beat that is pending.
func (b *beats) flush() {
	b.gaps = binary.AppendUvarint(b.gaps, uint64(b.pending-b.written))
	b.written = b.pending
}

// times appends the times of the beats to those of segments before. A second that
// lies in two segments has one beat.
func (b *beats) times(before []int64) []int64 {
	at := int64(0)
	for rest := b.gaps; len(rest) > 0; {
		gap, n := binary.Uvarint(rest)
		rest = rest[n:]
		at += int64(gap)
		if last := len(before) - 1; last >= 0 && before[last]/1_000_000_000 == at/1_000_000_000 {
			before[last] = at
			continue
		}
		before = append(before, at)
	}
	return before
}

// rhythm is what all segments have of a pair, oldest first.
type rhythm struct {
	actor, place int32
	parts        []*beats
	in           []int32 // numbers of the segments
}

// readRhythms reads when each pair connected.
func readRhythms(ctx context.Context, sources []Source, w Window, all bool) (*traffic, map[uint64]*rhythm, error) {
	t := &traffic{pairs: newPairList(), read: make(map[int32]*segmentSource), actorIndex: make(map[string]int32), placeIndex: make(map[place]int32)}
	found := make(map[int32]map[uint64]*beats)
	err := inParallel(ctx, sources, func(ctx context.Context, s *segmentSource) error {
		from, to := w.bounds()
		if s.sealed && (s.last < from || s.first >= to) {
			return nil
		}
		d, err := readDimensions(ctx, s)
		if err == nil {
			err = d.readTasks(ctx, s)
		}
		if err != nil {
			return err
		}
		counted, err := d.readBeats(ctx, s, from, to, all)
		if err != nil {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.read[int32(s.Number)] = s
		found[int32(s.Number)] = t.translate(d, counted)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	numbers := make([]int32, 0, len(found))
	for number := range found {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	rhythms := make(map[uint64]*rhythm)
	for _, number := range numbers {
		for key, b := range found[number] {
			r := rhythms[key]
			if r == nil {
				r = &rhythm{actor: int32(key >> 32), place: int32(uint32(key))}
				rhythms[key] = r
			}
			r.parts, r.in = append(r.parts, b), append(r.in, number)
		}
		delete(found, number)
	}
	return t, rhythms, nil
}

// translate replaces the ids of one segment by those of all.
func (t *traffic) translate(d *dimensions, counted map[uint64]*beats) map[uint64]*beats {
	all := make(map[uint64]*beats, len(counted))
	for key, b := range counted {
		a, p := d.actors[key>>32], d.places[int64(uint32(key))]
		who, ok := t.actorIndex[a.key()]
		if !ok {
			who = int32(len(t.actors))
			t.actorIndex[a.key()] = who
			t.actors = append(t.actors, a)
		}
		pair := pairIndex(who, int64(t.place(p)))
		if known := all[pair]; known != nil { // one address in two forms
			b = b.with(known)
		}
		all[pair] = b
	}
	return all
}

// readBeats reads the connections of one segment by time.
func (d *dimensions) readBeats(ctx context.Context, s *segmentSource, from, to int64, all bool) (map[uint64]*beats, error) {
	counted := make(map[uint64]*beats)
	sql := fmt.Sprintf(`SELECT id, task, remote, shape FROM %s.connection WHERE id >= %d AND id < %d ORDER BY id`, s.Schema, from, to)
	err := scan(ctx, s.Conn, sql, func(row *sqlite.Stmt) {
		remote := row.ColumnInt64(2)
		if d.probes && !all && d.isProbe(remote, row.ColumnInt64(3)) {
			return
		}
		key := pairIndex(d.byTask[row.ColumnInt64(1)], remote)
		b := counted[key]
		if b == nil {
			b = new(beats)
			counted[key] = b
		}
		b.add(row.ColumnInt64(0))
	})
	if err != nil {
		return nil, err
	}
	for _, b := range counted {
		b.flush()
	}
	sql = fmt.Sprintf(`SELECT c.remote, c.task, r.count - 1, r.last_ns FROM %[1]s.repeat r CROSS JOIN %[1]s.connection c ON c.id = r.id WHERE r.id >= %[2]d AND r.id < %[3]d`, s.Schema, from, to)
	return counted, scan(ctx, s.Conn, sql, func(row *sqlite.Stmt) {
		if b := counted[pairIndex(d.byTask[row.ColumnInt64(1)], row.ColumnInt64(0))]; b != nil {
			b.n += row.ColumnInt64(2)
			b.end = max(b.end, row.ColumnInt64(3))
		}
	})
}

// beacon is a row of the query beacons.
type beacon struct {
	score, interval, jitter float64
	firstRow
	last int64 // wall clock
	who  *actor
}

// beacons scores the rhythms as canned/beacons.sql does and returns those with the
// score, the highest first.
func (t *traffic) beacons(rhythms map[uint64]*rhythm, least int64, score float64) []beacon {
	var found []beacon
	var times, gaps []int64
	for _, r := range t.join(rhythms) {
		var n int64
		for _, b := range r.parts {
			n += b.n
		}
		if n < least {
			continue
		}
		times = times[:0]
		for _, b := range r.parts {
			times = b.times(times)
		}
		if int64(len(times)) < least || len(times) < 2 {
			continue
		}
		gaps = gaps[:0]
		for i := 1; i < len(times); i++ {
			gaps = append(gaps, times[i]-times[i-1])
		}
		one, ok := scoreGaps(gaps, score)
		if !ok {
			continue
		}
		first := r.parts[0]
		one.firstRow = firstRow{first.first, int(r.in[0]), n, t.places[r.place].label()}
		for i, b := range r.parts {
			one.last = max(one.last, t.read[r.in[i]].wall(b.end))
		}
		one.who = &t.actors[r.actor]
		found = append(found, one)
	}
	slices.SortFunc(found, func(a, b beacon) int {
		return cmp.Or(-cmp.Compare(a.score, b.score), -cmp.Compare(a.n, b.n), cmp.Compare(a.label, b.label), cmp.Compare(a.who.exe, b.who.exe))
	})
	return found
}

// join puts rhythms together that the SQL does not tell apart: users without a name,
// and addresses that look the same.
func (t *traffic) join(rhythms map[uint64]*rhythm) map[string]*rhythm {
	joined := make(map[string]*rhythm, len(rhythms))
	actors := make([]string, len(t.actors))
	for i, a := range t.actors {
		if a.user.Kind == Integer {
			a.user = Value{}
			t.actors[i].user = Value{}
		}
		actors[i] = a.key() + "\x00"
	}
	for _, r := range rhythms {
		key := actors[r.actor] + t.places[r.place].label()
		known := joined[key]
		if known == nil {
			joined[key] = r
			continue
		}
		known.mix(r)
	}
	return joined
}

// mix merges the connects of two rhythms, segment by segment.
func (r *rhythm) mix(other *rhythm) {
	for i, number := range other.in {
		at, found := slices.BinarySearch(r.in, number)
		if !found {
			r.in, r.parts = slices.Insert(r.in, at, number), slices.Insert(r.parts, at, other.parts[i])
			continue
		}
		r.parts[at] = r.parts[at].with(other.parts[i])
	}
}

// with returns the connects of two pairs in one segment as those of one.
func (b *beats) with(other *beats) *beats {
	times := append(b.times(nil), other.times(nil)...)
	slices.Sort(times)
	mixed := new(beats)
	for _, at := range times {
		mixed.add(at)
	}
	mixed.flush()
	mixed.first, mixed.n, mixed.end = min(b.first, other.first), b.n+other.n, max(b.end, other.end)
	return mixed
}

// scoreGaps scores intervals, which it sorts, and reports whether they have the
// score.
func scoreGaps(gaps []int64, least float64) (beacon, bool) {
	slices.Sort(gaps)
	q1, q2, q3 := rankOf(gaps, 0.25), rankOf(gaps, 0.5), rankOf(gaps, 0.75)
	skew := 1.0
	if q3 != q1 && q2 != q1 && q2 != q3 {
		skew = 1 - math.Abs(float64(q1+q3-2*q2))/float64(q3-q1)
	}
	if rounded(50*(skew+1), 1) < least {
		return beacon{}, false
	}
	for i, gap := range gaps {
		gaps[i] = max(gap-q2, q2-gap)
	}
	slices.Sort(gaps)
	away := rankOf(gaps, 0.5)
	spread := max(0, 1-float64(away)/float64(q2))
	b := beacon{score: rounded(50*(skew+spread), 1), interval: rounded(float64(q2)/1e9, 3), jitter: rounded(float64(away)/1e9, 3)}
	return b, b.score >= least
}

// rankOf returns the value at a share of the sorted values, of the nearest rank.
func rankOf(sorted []int64, share float64) int64 {
	return sorted[int(math.Round(float64(len(sorted)-1)*share))]
}

// rounded rounds as SQLite does, by decimal digits.
func rounded(f float64, digits int) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', digits, 64), 64)
	return r
}

// writeBeacons writes what canned/beacons.sql says.
func (p *Planned) writeBeacons(ctx context.Context, found []beacon, out RowWriter) (Result, error) {
	rows := make([]firstRow, len(found))
	for i, b := range found {
		rows[i] = b.firstRow
	}
	if limit := p.request.Limit; limit > 0 {
		rows = rows[:min(int64(len(rows)), limit)]
	}
	details, err := p.firsts(ctx, rows)
	if err != nil {
		return Result{}, err
	}
	columns := []string{"score", "interval", "jitter", "n", "first_time", "last_time", "user", "container", "exe", "remote", "cmdline", "ancestry"}
	return writeRows(out, p.request.Limit, columns, len(found), func(i int) []Value {
		b := found[i]
		d := details[[2]int64{int64(b.firstIn), b.first}] // time, pid, user, exe, remote, outcome, cmdline, ancestry
		if d == nil {
			d = make([]Value, 8)
		}
		return []Value{
			{Kind: Real, Real: b.score}, {Kind: Real, Real: b.interval}, {Kind: Real, Real: b.jitter}, intValue(b.n), d[0], wallText(b.last),
			b.who.user, b.who.container, textValue(b.who.exe), textValue(b.label), d[6], d[7],
		}
	})
}
