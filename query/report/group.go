package report

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/conntape/conntape/query/pairs"
	"github.com/conntape/conntape/query/table"
)

// flow is a flow in numbers of the tape.
type flow struct {
	*table.Contact
	segment                      *table.SegmentSource
	actor, program, place, label int32
	pid                          int64
}

// group is the sum of the flows with one key.
type group struct {
	n, failed, denied   int64 // connects; failed includes denied
	first               int64 // id of the first connection
	firstWall, lastWall int64
	pid                 int64 // the highest
	firstIn             int32 // segment of the first connection
	programs, labels    int32 // different ones, if they are counted
	label               int32 // of the last flow + 1
}

// noFlow is a group before its first flow.
var noFlow = group{first: table.Never, firstWall: table.Never, lastWall: -table.Never, pid: math.MinInt64}

// add adds the sums of other flows.
func (g *group) add(other *group) {
	g.n, g.failed, g.denied = g.n+other.n, g.failed+other.failed, g.denied+other.denied
	g.begin(other.first, other.firstIn)
	g.firstWall, g.lastWall = min(g.firstWall, other.firstWall), max(g.lastWall, other.lastWall)
	g.pid = max(g.pid, other.pid)
}

// begin makes a connection of a segment the first, if it is.
func (g *group) begin(first int64, segment int32) {
	if first < g.first || first == g.first && segment < g.firstIn {
		g.first, g.firstIn = first, segment
	}
}

// grouping says how flows are grouped.
type grouping struct {
	key  func(flow) uint64 // the same for the flows of a group
	keys int               // all are below it, and are the numbers of groups; 0: they are any
	slot int64             // length of the parts of time into which flows are cut, ns; 0: they are not
	most int               // pairs that a worker holds beyond bitmaps, before it ends with table.ErrTooMuch; 0: any number

	tellsTimes                   bool // first and last time of the wall clock
	countsPrograms, countsLabels bool // different ones
}

// groups are the groups of a reading. A key is that of the group with its number.
type groups struct {
	grouping
	*table.Reading
	labelOf  []int32       // of places
	part     table.Contact // of a flow that is cut
	table    pairs.Table
	list     []group
	programs *pairs.Set // of groups; nil: they are not counted
	labels   *pairs.Set
}

// groupBy groups the flows of a reading. Each worker has groups of its own, which are then put together.
func (p *Planned) groupBy(ctx context.Context, r *table.Reading, by grouping) (*groups, error) {
	labels, labelOf := r.Labels()
	var workers collected[*groups]
	newGroups := func() *groups {
		g := &groups{grouping: by, Reading: r, labelOf: labelOf, list: slices.Repeat([]group{noFlow}, by.keys)}
		height, most := cmp.Or(by.keys, math.MaxInt32), p.tape.Limits.Pairs
		if by.countsPrograms {
			g.programs = pairs.NewSet(height, len(r.Programs.List), most)
		}
		if by.countsLabels {
			g.labels = pairs.NewSet(height, len(labels), most)
		}
		return g
	}
	if err := r.Contacts(ctx, func() table.ContactReader { return workers.add(newGroups()) }); err != nil {
		return nil, err
	}
	if len(workers.list) == 0 {
		return newGroups(), nil
	}
	all := workers.list[0]
	for i, other := range workers.list[1:] {
		all.merge(other)
		workers.list[i+1] = nil
	}
	all.programs.Each(func(group, _ int32) { all.list[group].programs++ })
	all.labels.Each(func(group, _ int32) { all.list[group].labels++ })
	return all, nil
}

// each yields the groups that have flows, with their keys.
func (g *groups) each(yield func(uint64, *group) bool) {
	for i := range g.list {
		key := uint64(i)
		if g.keys == 0 {
			key = g.table.Keys[i]
		}
		if g.list[i].first < table.Never && !yield(key, &g.list[i]) {
			return
		}
	}
}

func (g *groups) Begin(*table.SegmentSource, int64, int64) {}

func (g *groups) End(*table.SegmentSource) error { return nil }

// Take adds a flow to its group, or its parts to theirs.
func (g *groups) Take(s *table.SegmentSource, c *table.Contact) error {
	who, place := &s.Task[c.Task], s.Place[c.Remote]
	f := flow{Contact: c, segment: s, actor: who.Actor, program: g.ProgramOf[who.Actor], place: place, label: g.labelOf[place], pid: who.PID}
	if g.slot == 0 {
		g.take(f)
		return nil
	}
	for from, to := 0, 0; from < len(c.IDs); from = to {
		to = endOfSlot(c.IDs, from, g.slot)
		g.part = c.Part(from, to)
		f.Contact = &g.part
		g.take(f)
	}
	if g.most > 0 && g.held() > g.most {
		return table.ErrTooMuch
	}
	return nil
}

// held returns how many pairs are held beyond bitmaps.
func (g *groups) held() int { return g.programs.InTable() + g.labels.InTable() }

// take adds a flow to its group.
func (g *groups) take(f flow) {
	number := g.number(g.key(f))
	to, how := &g.list[number], &f.segment.Shape[f.Shape]
	to.n += f.N
	if how.Failed {
		to.failed += f.N
	}
	if how.Denied {
		to.denied += f.N
	}
	to.begin(f.IDs[0], int32(f.segment.Number))
	to.pid = max(to.pid, f.pid)
	if g.tellsTimes {
		first, last := f.segment.Walls(f.Contact)
		to.firstWall, to.lastWall = min(to.firstWall, first), max(to.lastWall, last)
	}
	if g.countsPrograms {
		g.programs.Add(number, f.program)
	}
	if g.countsLabels && to.label != f.label+1 { // flows of an endpoint come together
		to.label = f.label + 1
		g.labels.Add(number, f.label)
	}
}

// endOfSlot returns where in ascending times the slot of a time ends.
func endOfSlot(times []int64, from int, length int64) int {
	slot, to := times[from]/length, from+1
	for start := slot * length; to < len(times); to++ {
		if slot > 0 && uint64(times[to]-start) >= uint64(length) || slot <= 0 && times[to]/length != slot {
			break
		}
	}
	return to
}

// number returns the number of the group with a key.
func (g *groups) number(key uint64) int32 {
	if g.keys > 0 {
		return int32(key)
	}
	number, isNew := g.table.Add(key)
	if isNew {
		g.list = append(g.list, noFlow)
	}
	return number
}

// merge adds the groups of another worker.
func (g *groups) merge(other *groups) {
	for key, group := range other.each {
		g.list[g.number(key)].add(group)
	}
	own := func(number int32) int32 {
		if g.keys > 0 {
			return number
		}
		return g.number(other.table.Keys[number])
	}
	other.programs.Each(func(number, program int32) { g.programs.Add(own(number), program) })
	other.labels.Each(func(number, label int32) { g.labels.Add(own(number), label) })
}
