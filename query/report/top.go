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

// topNames are the names that top counts by: of actors, of places, or of ports and protocols.
type topNames struct {
	*table.Names
	reading          *table.Reading
	numbers          map[int32]int64 // of entries that are uids and not names
	ofActor, ofPlace []int32
	ofPort           map[uint64]int32
}

// noName stands for an actor or place without a name.
const noName = "(none)"

func newTopNames(r *table.Reading, by string) *topNames {
	t := &topNames{Names: table.NewNames(), reading: r, numbers: make(map[int32]int64)}
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

// ofFlow returns the id of a flow's name.
func (t *topNames) ofFlow(f flow) int32 {
	switch {
	case t.ofActor != nil:
		return t.ofActor[f.actor]
	case t.ofPlace != nil:
		return t.ofPlace[f.place]
	}
	return t.ofPort[pairs.Of(f.segment.Shape[f.Shape].Protocol, int32(t.reading.Places[f.place].Port))]
}

// top answers canned/top.sql. Postings have no bytes: for those its SQL answers.
func (p *Planned) top(ctx context.Context, out format.RowWriter) (ask.Result, error) {
	if p.text("by") == "connects" {
		return counting(finally((*Planned).topConnects))(p, ctx, out)
	}
	return p.bySQL(ctx, out)
}

// topRow is a group with its name.
type topRow struct {
	*group
	name int
}

func (p *Planned) topConnects(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	names := newTopNames(r, p.text("what"))
	all, err := p.groupBy(ctx, r, grouping{keys: len(names.List), tellsTimes: true, countsPrograms: true, countsLabels: true, key: func(f flow) uint64 { return uint64(names.ofFlow(f)) }})
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	var rows []topRow
	var total, most int64
	for key, g := range all.each {
		rows = append(rows, topRow{g, int(key)})
		total, most = total+g.n, max(most, g.n)
	}
	slices.SortFunc(rows, func(a, b topRow) int {
		return cmp.Or(-cmp.Compare(a.n, b.n), names.compare(a.name, b.name))
	})
	if limit := p.request.Params[LimitParam].Int; limit >= 0 && int64(len(rows)) > limit {
		rows = rows[:limit]
	}
	return p.writeRows(ctx, out, []string{"name", "n", "percent", "programs", "destinations", "failed", "first_time", "last_time", "bar", "bytes_sent", "bytes_received"}, len(rows), func(i int) []format.Value {
		row := rows[i]
		return []format.Value{
			names.value(row.name), format.IntValue(row.n), {Kind: format.Real, Real: rounded(100*float64(row.n)/float64(total), 1)}, format.IntValue(int64(row.programs)), format.IntValue(int64(row.labels)),
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
