package report

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/pairs"
	"github.com/conntape/conntape/query/table"
)

// topRow is a row of the query top.
type topRow struct {
	n, failed           int64
	firstWall, lastWall int64
	programs, places    int64 // different ones
}

// topNames are the names that top counts by: of actors, of places, or of ports and protocols.
type topNames struct {
	*table.Names
	numbers          map[int32]int64 // of entries that are uids and not names
	ofActor, ofPlace []int32
	ofPort           map[uint64]int32
	place            []int32 // labels of places
}

// noName stands for an actor or place without a name.
const noName = "(none)"

func newTopNames(r *table.Reading, by string) *topNames {
	_, labels := r.Labels()
	t := &topNames{Names: table.NewNames(), numbers: make(map[int32]int64), place: labels}
	switch by {
	case "destination":
		for _, to := range r.Places {
			t.ofPlace = append(t.ofPlace, t.Of(to.Label()))
		}
		return t
	case "port":
		t.ofPort = make(map[uint64]int32)
		for _, to := range r.Places {
			for number, protocol := range r.Protocols.List {
				name := noName
				if number > 0 && to.Port >= 0 {
					name = protocol + "/" + strconv.FormatInt(to.Port, 10)
					if service := ask.ServiceName(to.Port, protocol == "udp"); service != "" {
						name += " " + service
					}
				}
				t.ofPort[pairs.Of(int32(number), int32(to.Port))] = t.Of(name)
			}
		}
		return t
	}
	for _, a := range r.Actors {
		name := a.Exe
		switch {
		case by == "user" && a.User.Kind == format.Integer:
			t.ofActor = append(t.ofActor, t.ofNumber(a.User.Int))
			continue
		case by == "user" && a.User.Kind == format.Text:
			name = string(a.User.Bytes)
		case by == "user":
			name = noName
		case by == "container" && a.Container.Kind == format.Text:
			name = string(a.Container.Bytes)
		case by == "container":
			name = noName
		}
		t.ofActor = append(t.ofActor, t.Of(name))
	}
	return t
}

// ofNumber returns the id of a uid. A user whose name is this number has another id.
func (t *topNames) ofNumber(uid int64) int32 {
	number := t.Of("\x00" + strconv.FormatInt(uid, 10)) // no user name has a NUL
	t.numbers[number] = uid
	return number
}

// value returns a name as it is shown.
func (t *topNames) value(number int) format.Value {
	if uid, ok := t.numbers[int32(number)]; ok {
		return format.IntValue(uid)
	}
	return format.TextValue(t.List[number])
}

// compare orders names as SQLite does, numbers before texts.
func (t *topNames) compare(a, b int) int {
	x, y := t.value(a), t.value(b)
	switch {
	case x.Kind == format.Integer && y.Kind == format.Integer:
		return cmp.Compare(x.Int, y.Int)
	case x.Kind == format.Integer:
		return -1
	case y.Kind == format.Integer:
		return 1
	}
	return cmp.Compare(t.List[a], t.List[b])
}

// topReader counts contacts by name.
type topReader struct {
	*table.Reading
	names            *topNames
	rows             []topRow
	last             []int32    // by name: the last place, from 1
	programs, places *pairs.Set // of a name
}

func (t *topReader) Begin(*table.SegmentSource, int64, int64) {}

func (t *topReader) End(*table.SegmentSource) error { return nil }

func (t *topReader) Take(s *table.SegmentSource, c *table.Contact) error {
	who, to, how := s.Task[c.Task].Actor, s.Place[c.Remote], &s.Shape[c.Shape]
	if !t.All && t.IsProbe(to, how) {
		return nil
	}
	var name int32
	switch {
	case t.names.ofActor != nil:
		name = t.names.ofActor[who]
	case t.names.ofPlace != nil:
		name = t.names.ofPlace[to]
	default:
		name = t.names.ofPort[pairs.Of(how.Protocol, int32(t.Reading.Places[to].Port))]
	}
	row := &t.rows[name]
	first, last := s.Walls(c)
	if row.n == 0 {
		row.firstWall, row.lastWall = first, last
	}
	row.n += c.N
	if how.Failed {
		row.failed += c.N
	}
	row.firstWall, row.lastWall = min(row.firstWall, first), max(row.lastWall, last)
	t.programs.Add(name, t.ProgramOf[who])
	if to := t.names.place[to]; t.last[name] != to+1 {
		t.last[name] = to + 1
		t.places.Add(name, to)
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
	t.programs.Merge(other.programs)
	t.places.Merge(other.places)
}

// top answers canned/top.sql. Postings have no bytes: for those its SQL answers.
func (p *Planned) top(ctx context.Context, out format.RowWriter) (ask.Result, error) {
	if p.text("by") == "connects" {
		return counting(finally((*Planned).topConnects))(p, ctx, out)
	}
	return p.bySQL(ctx, out)
}

func (p *Planned) topConnects(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	names := newTopNames(r, p.text("what"))
	newTop := func() *topReader {
		n := len(names.List)
		return &topReader{Reading: r, names: names, rows: make([]topRow, n), last: make([]int32, n),
			programs: pairs.NewSet(n, len(r.Programs.List), p.tape.Limits.Pairs), places: pairs.NewSet(n, len(r.Places), p.tape.Limits.Pairs)}
	}
	var readers collected[*topReader]
	if err := r.Contacts(ctx, func() table.ContactReader { return readers.add(newTop()) }); err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	t := newTop()
	for _, other := range readers.list {
		t.merge(other)
	}
	t.programs.Each(func(name int32) { t.rows[name].programs++ })
	t.places.Each(func(name int32) { t.rows[name].places++ })
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
	return p.writeRows(ctx, out, []string{"name", "n", "percent", "programs", "destinations", "failed", "first_time", "last_time", "bar", "bytes_sent", "bytes_received"}, len(shown), func(i int) []format.Value {
		row := t.rows[shown[i]]
		return []format.Value{
			names.value(shown[i]), format.IntValue(row.n), {Kind: format.Real, Real: rounded(100*float64(row.n)/float64(total), 1)}, format.IntValue(row.programs), format.IntValue(row.places),
			format.IntValue(row.failed), format.WallText(row.firstWall), format.WallText(row.lastWall), barText(row.n, most), {}, {},
		}
	})
}

// barText returns n as a share of the most, in twenty steps, none of them for nothing.
func barText(n, most int64) format.Value {
	if n <= 0 || most <= 0 {
		return format.TextValue("")
	}
	return format.TextValue(strings.Repeat("█", min(20, int(math.Ceil(20*float64(n)/float64(most))))))
}
