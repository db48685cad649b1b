package query

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
)

// topRow is a row of the query top.
type topRow struct {
	n, failed           int64
	firstWall, lastWall int64
	programs, places    int64 // different ones
}

// topNames are the names that top counts by: of actors, of places, or of ports and protocols.
type topNames struct {
	*names
	numbers          map[int32]int64 // of entries that are uids and not names
	ofActor, ofPlace []int32
	ofPort           map[uint64]int32
	place            []int32 // of places: equal for the same address and port
}

// noName stands for an actor or place without a name.
const noName = "(none)"

func newTopNames(r *reading, by string) *topNames {
	t := &topNames{names: newNames(), numbers: make(map[int32]int64), place: r.addresses(true)}
	switch by {
	case "destination":
		for _, to := range r.places {
			t.ofPlace = append(t.ofPlace, t.of(to.label()))
		}
		return t
	case "port":
		t.ofPort = make(map[uint64]int32)
		for _, to := range r.places {
			for number, protocol := range r.protocols.list {
				name := noName
				if number > 0 && to.port >= 0 {
					name = protocol + "/" + strconv.FormatInt(to.port, 10)
					if service := serviceName(to.port, protocol == "udp"); service != "" {
						name += " " + service
					}
				}
				t.ofPort[pairOf(int32(number), int32(to.port))] = t.of(name)
			}
		}
		return t
	}
	for _, a := range r.actors {
		name := a.exe
		switch {
		case by == "user" && a.user.Kind == Integer:
			t.ofActor = append(t.ofActor, t.ofNumber(a.user.Int))
			continue
		case by == "user" && a.user.Kind == Text:
			name = string(a.user.Bytes)
		case by == "user":
			name = noName
		case by == "container" && a.container.Kind == Text:
			name = string(a.container.Bytes)
		case by == "container":
			name = noName
		}
		t.ofActor = append(t.ofActor, t.of(name))
	}
	return t
}

// ofNumber returns the id of a uid. A user whose name is this number has another id.
func (t *topNames) ofNumber(uid int64) int32 {
	number := t.of("\x00" + strconv.FormatInt(uid, 10)) // no user name has a NUL
	t.numbers[number] = uid
	return number
}

// value returns a name as it is shown.
func (t *topNames) value(number int) Value {
	if uid, ok := t.numbers[int32(number)]; ok {
		return intValue(uid)
	}
	return textValue(t.list[number])
}

// compare orders names as SQLite does, numbers before texts.
func (t *topNames) compare(a, b int) int {
	x, y := t.value(a), t.value(b)
	switch {
	case x.Kind == Integer && y.Kind == Integer:
		return cmp.Compare(x.Int, y.Int)
	case x.Kind == Integer:
		return -1
	case y.Kind == Integer:
		return 1
	}
	return cmp.Compare(t.list[a], t.list[b])
}

// topReader counts contacts by name.
type topReader struct {
	*reading
	names            *topNames
	rows             []topRow
	last             []int32  // by name: the last place, from 1
	programs, places *pairSet // of a name
}

func (t *topReader) begin(*segmentSource, int64, int64) {}

func (t *topReader) end(*segmentSource) error { return nil }

func (t *topReader) take(s *segmentSource, c *contact) error {
	who, to, how := s.task[c.task].actor, s.place[c.remote], &s.shape[c.shape]
	if !t.all && t.isProbe(to, how) {
		return nil
	}
	var name int32
	switch {
	case t.names.ofActor != nil:
		name = t.names.ofActor[who]
	case t.names.ofPlace != nil:
		name = t.names.ofPlace[to]
	default:
		name = t.names.ofPort[pairOf(how.protocol, int32(t.reading.places[to].port))]
	}
	row := &t.rows[name]
	first, last := s.walls(c)
	if row.n == 0 {
		row.firstWall, row.lastWall = first, last
	}
	row.n += c.n
	if how.failed {
		row.failed += c.n
	}
	row.firstWall, row.lastWall = min(row.firstWall, first), max(row.lastWall, last)
	t.programs.add(name, t.programOf[who])
	if to := t.names.place[to]; t.last[name] != to+1 {
		t.last[name] = to + 1
		t.places.add(name, to)
	}
	return nil
}

// merge adds the counts of another reader.
func (t *topReader) merge(other *topReader) {
	for i := range other.rows {
		row, from := &t.rows[i], &other.rows[i]
		switch {
		case from.n == 0:
			continue
		case row.n == 0:
			*row = *from
			continue
		}
		row.n += from.n
		row.failed += from.failed
		row.firstWall, row.lastWall = min(row.firstWall, from.firstWall), max(row.lastWall, from.lastWall)
	}
	t.programs.merge(other.programs)
	t.places.merge(other.places)
}

// top answers canned/top.sql. Postings have no bytes: for those its SQL answers.
func (p *Planned) top(ctx context.Context, out RowWriter) (Result, error) {
	if p.text("by") == "connects" {
		return counting(finally((*Planned).topConnects))(p, ctx, out)
	}
	return p.bySQL(ctx, out)
}

func (p *Planned) topConnects(ctx context.Context, r *reading, out RowWriter) (Result, error) {
	names := newTopNames(r, p.text("what"))
	newTop := func() *topReader {
		n := len(names.list)
		return &topReader{reading: r, names: names, rows: make([]topRow, n), last: make([]int32, n),
			programs: newPairSet(n, len(r.programs.list)), places: newPairSet(n, len(r.places))}
	}
	var readers collected[*topReader]
	if err := r.contacts(ctx, func() contactReader { return readers.add(newTop()) }); err != nil {
		return Result{}, explainLimit(ctx, p.request.Timeout, err)
	}
	t := newTop()
	for _, other := range readers.list {
		t.merge(other)
	}
	t.programs.each(func(name int32) { t.rows[name].programs++ })
	t.places.each(func(name int32) { t.rows[name].places++ })
	var shown []int
	var total, most int64
	for i, row := range t.rows {
		if row.n > 0 { // else left out as probes
			shown = append(shown, i)
			total, most = total+row.n, max(most, row.n)
		}
	}
	slices.SortFunc(shown, func(a, b int) int {
		return cmp.Or(-cmp.Compare(t.rows[a].n, t.rows[b].n), names.compare(a, b))
	})
	if limit := p.request.Params[LimitParam].Int; limit >= 0 && int64(len(shown)) > limit {
		shown = shown[:limit]
	}
	return p.writeRows(ctx, out, []string{"name", "n", "percent", "programs", "destinations", "failed", "first_time", "last_time", "bar", "bytes_sent", "bytes_received"}, len(shown), func(i int) []Value {
		row := t.rows[shown[i]]
		return []Value{
			names.value(shown[i]), intValue(row.n), {Kind: Real, Real: rounded(100*float64(row.n)/float64(total), 1)}, intValue(row.programs), intValue(row.places),
			intValue(row.failed), wallText(row.firstWall), wallText(row.lastWall), barText(row.n, most), {}, {},
		}
	})
}

// barText returns n as a share of the most, in twenty steps, none of them for nothing.
func barText(n, most int64) Value {
	if n <= 0 || most <= 0 {
		return textValue("")
	}
	return textValue(strings.Repeat("█", min(20, int(math.Ceil(20*float64(n)/float64(most))))))
}
