package report

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
)

// Scans are searched in time slots that overlap by half: time k is the slots k and k+1. First the endpoints of each
// process are counted by slot, which needs no order. Only where there are enough for a scan, the connections are sorted
// by time and checked. Connections at the border of two runs are checked once more, together.

// attempts is a flow in fanout.
type attempts struct {
	process, place int32
	failed, many   bool // many: a row stands for several connects
	from, to       int  // of ids
}

// attempt is one connection.
type attempt struct {
	id, n          int64
	process, place int32
	number         int32 // of the segment
	failed         bool
}

// scanFound is a row of the query fanout.
type scanFound struct {
	firstRow // the first connection of the time; n connects, label an example
	slot, wall,
	addresses, ports, failed int64
}

// fanout looks for scans.
type fanout struct {
	*table.Reading
	limits            table.Limits
	half              int64   // length of a slot, ns
	leastAddresses    int64   // in a scan
	leastPorts        int64   // of one address, in a scan
	address, withPort []int32 // numbers of places
	pass, passes      int32

	mu      sync.Mutex
	borders []attempt
	best    map[int32]scanFound // by process
}

// fanoutReader is one reader of it.
type fanoutReader struct {
	*fanout
	segment     *table.SegmentSource
	first, last int64      // slots of this run
	others      [][2]int64 // of other segments in between
	ids         []int64
	attempts    []attempts
	counts      []uint32 // number of endpoints by slot, of one process
	found       []attempt
	*judge
}

func (f *fanoutReader) Begin(s *table.SegmentSource, first, last int64) {
	f.segment, f.first, f.last = s, first/f.half, last/f.half
	f.ids, f.attempts, f.others = f.ids[:0], f.attempts[:0], f.others[:0]
	for _, other := range f.Segments {
		if from, to := other.First/f.half-1, other.Last/f.half+1; other != s && to > f.first+1 && from < f.last-1 {
			f.others = append(f.others, [2]int64{from, to})
		}
	}
}

func (f *fanoutReader) Take(s *table.SegmentSource, c *table.Contact) error {
	to, how, who := s.Place[c.Remote], &s.Shape[c.Shape], s.Task[c.Task].Process
	family := f.Places[to].Family
	if who%f.passes != f.pass || family != table.FamilyIPv4 && family != table.FamilyIPv6 {
		return nil
	}
	if len(f.ids)+5*len(f.attempts) > f.limits.Tried && f.passes < mostPasses {
		return table.ErrTooMuch
	}
	f.attempts = append(f.attempts, attempts{who, to, how.Failed, c.Counts != nil, len(f.ids), len(f.ids) + len(c.IDs)})
	f.ids = append(f.ids, c.IDs...)
	return nil
}

// end checks the run, process by process.
func (f *fanoutReader) End(*table.SegmentSource) error {
	slices.SortFunc(f.attempts, func(a, b attempts) int { return cmp.Compare(a.process, b.process) })
	if span := uint64(f.last - f.first); span < f.limits.Slots && uint64(len(f.counts)) < span+2 {
		f.counts = make([]uint32, span+2)
	}
	for rest := f.attempts; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].process == rest[0].process {
			n++
		}
		f.process(rest[:n])
		rest = rest[n:]
	}
	return nil
}

// process checks the connects of one process in the run.
func (f *fanoutReader) process(all []attempts) {
	span := uint64(f.last - f.first)
	counted := span < f.limits.Slots
	if counted {
		f.count(all)
	}
	least := uint32(max(0, min(f.leastAddresses, f.leastPorts, 1<<31)))
	f.found = f.found[:0]
	var borders []attempt
	for _, a := range all {
		for _, id := range f.ids[a.from:a.to] {
			slot := id / f.half
			wanted := !counted
			if counted {
				at := slot - f.first
				here, after := f.counts[at], f.counts[at+1]
				wanted = here+after >= least || at > 0 && f.counts[at-1]+here >= least
			}
			border := f.isBorder(slot)
			if !wanted && !border {
				continue
			}
			one := attempt{id, 1, a.process, a.place, int32(f.segment.Number), a.failed}
			if a.many {
				one.n = f.segment.RepeatOf(id).Count
			}
			if wanted {
				f.found = append(f.found, one)
			}
			if border {
				borders = append(borders, one)
			}
		}
	}
	if counted {
		clear(f.counts[:span+2])
	}
	f.look(f.found)
	if len(borders) > 0 {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.borders = append(f.borders, borders...)
	}
}

// count counts the endpoints of a process by slot. An endpoint with several flows counts several times: the count is an
// upper limit.
func (f *fanoutReader) count(all []attempts) {
	for _, a := range all {
		end := int64(-table.Never)
		for _, id := range f.ids[a.from:a.to] {
			if id < end {
				continue // in the previous slot
			}
			slot := id / f.half
			f.counts[slot-f.first]++
			end = (slot + 1) * f.half
			if slot < 0 {
				end = id + 1
			}
		}
	}
}

// isBorder reports whether a time with this slot may continue in another run.
func (f *fanoutReader) isBorder(slot int64) bool {
	if slot <= f.first+1 || slot >= f.last-1 {
		return true
	}
	for _, other := range f.others {
		if slot >= other[0] && slot <= other[1] {
			return true
		}
	}
	return false
}

// judge checks connections of one process in time order.
type judge struct {
	*fanout
	stamp     int32
	addresses []int32 // by number: stamp of the last time that counted it
	withPorts []int32 // the same with ports
	ports     []int32 // of the address, in this time
}

func newJudge(f *fanout) *judge {
	n := len(f.Places)
	return &judge{fanout: f, addresses: make([]int32, n), withPorts: make([]int32, n), ports: make([]int32, n)}
}

// look sorts the connections of one process and judges every time that has one of them.
func (j *judge) look(list []attempt) {
	if len(list) == 0 {
		return
	}
	slices.SortFunc(list, func(a, b attempt) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.number, b.number)) })
	slotOf := func(i int) int64 { return list[i].id / j.half }
	for from := 0; from < len(list); {
		slot, next := slotOf(from), from
		for next < len(list) && slotOf(next) == slot {
			next++
		}
		to := next
		for to < len(list) && slotOf(to) == slot+1 {
			to++
		}
		if from == 0 || slotOf(from-1) < slot-1 { // the slot before is empty
			j.time(slot-1, list[from:next])
		}
		j.time(slot, list[from:to])
		from = next
	}
}

// time judges the connections of one time, and keeps it if it is the process's busiest scan so far.
func (j *judge) time(slot int64, list []attempt) {
	if int64(len(list)) < min(j.leastAddresses, j.leastPorts) {
		return
	}
	j.stamp++
	one := scanFound{slot: slot, wall: table.Never, firstRow: firstRow{first: list[0].id, firstIn: int(list[0].number)}}
	for i := range list {
		a := &list[i]
		one.n += a.n
		if a.failed {
			one.failed += a.n
		}
		address, withPort := j.address[a.place], j.withPort[a.place]
		if j.addresses[address] != j.stamp {
			j.addresses[address], j.ports[address] = j.stamp, 0
			one.addresses++
			one.wall = min(one.wall, j.ByNumber[int(a.number)].Wall(a.id))
		}
		if j.withPorts[withPort] != j.stamp && j.Places[a.place].Port >= 0 {
			j.withPorts[withPort] = j.stamp
			j.ports[address]++
			one.ports = max(one.ports, int64(j.ports[address]))
		}
	}
	if one.addresses < j.leastAddresses && one.ports < j.leastPorts {
		return
	}
	one.label = j.Places[list[0].place].Label()
	j.mu.Lock()
	defer j.mu.Unlock()
	known, ok := j.best[list[0].process]
	if !ok || one.n > known.n || one.n == known.n && one.slot < known.slot {
		j.best[list[0].process] = one
	}
}

// fanout answers canned/fanout.sql.
func (p *Planned) fanout(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	_, labels := r.Labels()
	f := &fanout{Reading: r, limits: p.tape.Limits, half: secondsOf(p.request) * (int64(time.Second) / 2), leastAddresses: p.request.Params["addresses"].Int,
		leastPorts: p.request.Params["ports"].Int, address: r.Addresses(), withPort: labels, best: make(map[int32]scanFound)}
	err := inPasses(1, func(pass, passes int32) error {
		f.pass, f.passes, f.borders = pass, passes, nil
		if err := r.Contacts(ctx, func() table.ContactReader { return &fanoutReader{fanout: f, judge: newJudge(f)} }); err != nil {
			return err
		}
		slices.SortFunc(f.borders, func(a, b attempt) int { return cmp.Compare(a.process, b.process) })
		j := newJudge(f)
		for rest := f.borders; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].process == rest[0].process {
				n++
			}
			j.look(rest[:n])
			rest = rest[n:]
		}
		return nil
	})
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	return p.writeFanout(ctx, f, out)
}

// writeFanout writes the scans that were found.
func (p *Planned) writeFanout(ctx context.Context, f *fanout, out format.RowWriter) (ask.Result, error) {
	var found []scanFound
	var rows []firstRow
	for _, one := range f.best {
		found, rows = append(found, one), append(rows, one.firstRow)
	}
	details := make(map[[2]int64][]format.Value)
	for part := range slices.Chunk(rows, p.tape.Limits.Firsts) {
		read, err := p.firsts(ctx, part)
		if err != nil {
			return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
		}
		maps.Copy(details, read)
	}
	of := func(one scanFound) []format.Value { return details[one.key()] }
	slices.SortFunc(found, func(a, b scanFound) int {
		return cmp.Or(-cmp.Compare(a.n, b.n), cmp.Compare(a.wall, b.wall), bytes.Compare(of(a)[3].Bytes, of(b)[3].Bytes))
	})
	columns := []string{"time", "addresses", "ports", "n", "failed", "percent", "pid", "user", "container", "example", "exe", "cmdline", "ancestry"}
	return p.writeRows(ctx, out, columns, len(found), func(i int) []format.Value {
		one := found[i]
		d := of(one) // time, pid, user, exe, remote, outcome, cmdline, ancestry, container
		return []format.Value{format.WallText(one.wall), format.IntValue(one.addresses), format.IntValue(one.ports), format.IntValue(one.n), format.IntValue(one.failed), {Kind: format.Real, Real: rounded(100*float64(one.failed)/float64(one.n), 1)}, d[1], d[2], d[8], format.TextValue(one.label), d[3], d[6], d[7]}
	})
}
