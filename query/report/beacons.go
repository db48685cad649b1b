package report

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
)

// A beacon is found in the times of one program's connects to one destination, over all segments. So the tape's flows
// are held in memory, packed as in a posting and grouped by destination, and destinations are scored one by one.

// blocksHeld is the number of blocks in which flows are held.
const blocksHeld = 96

// heldPart is the flows with one destination in one segment.
type heldPart struct {
	label, number int32 // of the segment
	packed        []byte
}

// holder packs contacts.
type holder struct {
	*table.Reading
	*beaconNames
	pass, passes int32 // destinations of other passes are left out
	held         *atomic.Int64
	most         int64 // bytes held by all holders
	from, to     int64 // first and last connect that counts
	parts        []heldPart
	block        []byte
	open         bool // the last part continues
}

// beaconNames is the dictionary of destinations and actors: a beacon is one of each.
type beaconNames struct {
	labels *table.Names
	near   []bool  // of labels: not an Internet address
	label  []int32 // of places
	actor  []int32 // of actors: an actor whose user has no name, whatever the uid
}

func newBeaconNames(r *table.Reading) *beaconNames {
	b := &beaconNames{labels: table.NewNames()}
	for _, p := range r.Places {
		b.label = append(b.label, b.labels.Of(p.Label()))
		if len(b.near) < len(b.labels.List) {
			a, ok := ask.ParseAddress(p.Address)
			b.near = append(b.near, p.Port < 0 || !ok || ask.IsPrivateAddress(a))
		}
	}
	numbers := make(map[string]int32)
	for i := range r.Actors {
		a := r.Actors[i]
		a.User = namedUser(a.User)
		key := a.Key()
		if _, ok := numbers[key]; !ok {
			numbers[key] = int32(i)
		}
		b.actor = append(b.actor, numbers[key])
	}
	return b
}

// namedUser returns a user's name, NULL for a bare uid.
func namedUser(user format.Value) format.Value {
	if user.Kind == format.Integer {
		return format.Value{}
	}
	return user
}

func (h *holder) Begin(*table.SegmentSource, int64, int64) { h.open = false }

func (h *holder) End(*table.SegmentSource) error { return nil }

// take packs a flow: actor, connections, connects minus connections, the difference between wall clock and ids at both
// ends, the first id and the steps from it.
func (h *holder) Take(s *table.SegmentSource, c *table.Contact) error {
	label := h.label[s.Place[c.Remote]]
	h.from, h.to = min(h.from, c.IDs[0]), max(h.to, c.IDs[len(c.IDs)-1])
	if label%h.passes != h.pass {
		return nil
	}
	const most = binary.MaxVarintLen64
	if need := most * (5 + len(c.IDs)); cap(h.block)-len(h.block) < need {
		if h.held.Add(int64(cap(h.block))) > h.most {
			return table.ErrTooMuch
		}
		h.block, h.open = make([]byte, 0, max(int(h.most/blocksHeld), need)), false
	}
	last := len(h.parts) - 1
	h.open = h.open && h.parts[last].label == label
	start := len(h.block)
	firstWall, lastWall := s.Walls(c)
	b := binary.AppendUvarint(h.block, uint64(h.actor[s.Task[c.Task].Actor]))
	b = binary.AppendUvarint(b, uint64(len(c.IDs)))
	b = binary.AppendUvarint(b, uint64(c.N-int64(len(c.IDs))))
	b = binary.AppendVarint(b, firstWall-c.IDs[0])
	b = binary.AppendVarint(b, lastWall-c.IDs[len(c.IDs)-1])
	b = binary.AppendVarint(b, c.IDs[0])
	for i := 1; i < len(c.IDs); i++ {
		b = binary.AppendUvarint(b, uint64(c.IDs[i]-c.IDs[i-1]))
	}
	h.block = b
	if h.open {
		part := &h.parts[last]
		part.packed = b[start-len(part.packed):]
		return nil
	}
	h.parts, h.open = append(h.parts, heldPart{label, int32(s.Number), b[start:]}), true
	return nil
}

// beacons answers canned/beacons.sql.
func (p *Planned) beacons(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	names := newBeaconNames(r)
	var found []beacon
	err := inPasses(beaconPasses(r, p.tape.Limits.Held), func(pass, passes int32) error {
		if pass == 0 {
			found = nil
		}
		var held atomic.Int64
		var holders collected[*holder]
		err := r.Contacts(ctx, func() table.ContactReader {
			return holders.add(&holder{Reading: r, beaconNames: names, pass: pass, passes: passes, held: &held, most: p.tape.Limits.Held, from: table.Never, to: -table.Never})
		})
		if err != nil {
			return err
		}
		from, span := int64(0), int64(0)
		if len(holders.list) > 0 {
			to := int64(-table.Never)
			from = table.Never
			for _, h := range holders.list {
				from, to = min(from, h.from), max(to, h.to)
			}
			span = to - from
		}
		parts, starts := byLabel(holders.list, len(names.labels.List))
		how := scoring{p.request.Params["least"].Int, float64(p.request.Params["score"].Int), from, span}
		more, err := how.withSizes(ctx, r, scoreAll(r, names, parts, starts, how))
		found = append(found, more...)
		return cmp.Or(err, context.Cause(ctx))
	})
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	countAlike(found)
	found = slices.DeleteFunc(found, func(b beacon) bool {
		return p.passing != nil && !p.passing[shownPairOf(b.who.Exe, namedUser(b.who.User), b.who.Container, b.label)]
	})
	slices.SortFunc(found, func(a, b beacon) int {
		return cmp.Or(cmp.Compare(a.usual(), b.usual()), -cmp.Compare(a.score, b.score), -cmp.Compare(a.n, b.n), cmp.Compare(a.label, b.label), cmp.Compare(a.who.Exe, b.who.Exe))
	})
	return p.writeBeacons(ctx, found, out)
}

// beaconPasses returns the number of passes in which the flows will probably fit, with room for the garbage of the
// previous pass. A segment takes some 30 bytes for a connection that is packed in 10.
func beaconPasses(r *table.Reading, most int64) int32 {
	expected := 0.0
	for _, s := range r.Segments {
		part := (float64(min(r.To, s.Last)) - float64(max(r.From, s.First))) / max(1, float64(s.Last)-float64(s.First))
		expected += part * float64(s.Tape.Segments()[s.Index].Bytes) / 3
	}
	passes := int32(1)
	for expected > float64(most/3*2) && passes < mostPasses {
		passes, expected = 2*passes, expected/2
	}
	return passes
}

// byLabel sorts parts by destination: the parts of label l are parts[starts[l]:starts[l+1]].
func byLabel(holders []*holder, labels int) (parts []heldPart, starts []int32) {
	starts = make([]int32, labels+1)
	total := 0
	for _, h := range holders {
		total += len(h.parts)
		for i := range h.parts {
			starts[h.parts[i].label]++
		}
	}
	sum := int32(0)
	for l := range starts {
		sum += starts[l]
		starts[l] = sum // where it ends, for now
	}
	parts = make([]heldPart, total)
	for _, h := range holders {
		for i := range h.parts {
			starts[h.parts[i].label]--
			parts[starts[h.parts[i].label]] = h.parts[i]
		}
		h.parts, h.block = nil, nil
	}
	return parts, starts
}

// scoreAll scores the destinations, several at a time.
func scoreAll(r *table.Reading, names *beaconNames, parts []heldPart, starts []int32, how scoring) []beacon {
	var next atomic.Int32
	var wait sync.WaitGroup
	var scorers collected[*beaconScorer]
	for range table.Parallelism() {
		wait.Go(func() {
			b := scorers.add(&beaconScorer{Reading: r, scoring: how, of: make([]int32, len(r.Actors))})
			for {
				label := next.Add(1) - 1
				if int(label) >= len(names.labels.List) {
					return
				}
				if of := parts[starts[label]:starts[label+1]]; len(of) > 0 {
					b.destination(names.labels.List[label], names.near[label], of)
				}
			}
		})
	}
	wait.Wait()
	var found []beacon
	for _, b := range scorers.list {
		found = append(found, b.found...)
	}
	return found
}

// withSizes adds the sizes' part to beacons, and drops those whose score is too low with it.
func (how scoring) withSizes(ctx context.Context, r *table.Reading, found []beacon) ([]beacon, error) {
	var rows []table.RowKey
	for i := range found {
		rows = append(rows, found[i].sized...)
	}
	sent, err := r.Sent(ctx, rows)
	if err != nil {
		return nil, err
	}
	var sizes []int64
	for i := range found {
		b := &found[i]
		sizes = sizes[:0]
		for _, row := range b.sized {
			if n, known := sent[row]; known {
				sizes = append(sizes, n)
			}
		}
		b.sized, b.sizes = nil, -1
		if n := int64(len(sizes)); n > 0 && n >= how.least {
			b.sizes = scoreSizes(sizes)
		}
		b.score = b.sum()
	}
	return slices.DeleteFunc(found, func(b beacon) bool { return b.score < how.score }), nil
}

// writeBeacons writes the rows of canned/beacons.sql.
func (p *Planned) writeBeacons(ctx context.Context, found []beacon, out format.RowWriter) (ask.Result, error) {
	rows := make([]firstRow, len(found))
	for i, b := range found {
		rows[i] = b.firstRow
	}
	columns := []string{"score", "usual", "times", "sizes", "histogram", "duration", "interval", "jitter", "n", "programs", "alike", "days", "sparkline", "first_time", "last_time", "user", "container", "exe", "remote", "cmdline", "ancestry"}
	return p.writeFirsts(ctx, out, columns, rows, func(i int, first []format.Value) []format.Value {
		b := found[i]
		return []format.Value{
			{Kind: format.Real, Real: b.score}, format.IntValue(int64(b.usual())), ofHundred(b.times), ofHundred(b.sizes), ofHundred(b.histogram), ofHundred(b.duration),
			{Kind: format.Real, Real: b.interval}, {Kind: format.Real, Real: b.jitter}, format.IntValue(b.n), format.IntValue(b.programs), format.IntValue(b.alike), format.IntValue(b.days), format.TextValue(b.sparkline), format.WallText(b.firstWall), format.WallText(b.lastWall),
			namedUser(b.who.User), b.who.Container, format.TextValue(b.who.Exe), format.TextValue(b.label), first[6], first[7],
		}
	})
}

// ofHundred returns a part of the score as it is shown: of 100, NULL for a negative one.
func ofHundred(part float64) format.Value {
	if part < 0 {
		return format.Value{}
	}
	return format.Value{Kind: format.Real, Real: rounded(100*part, 1)}
}

// shownPair is a program with user and container, and a destination.
type shownPair string

func shownPairOf(exe string, user, container format.Value, remote string) shownPair {
	var key []byte
	for _, v := range []format.Value{format.TextValue(exe), user, container, format.TextValue(remote)} {
		key = fmt.Appendf(key, "%d %d %s", v.Kind, len(v.Bytes), v.Bytes)
	}
	return shownPair(key)
}

// readPassing reads the pairs that have a connection which passes the filter: passing of canned/beacons.sql.
func (p *Planned) readPassing(ctx context.Context) error {
	request, err := p.filter.Apply(ask.Request{Clock: p.request.Clock, Params: map[string]format.Value{"all": p.request.Params["all"]},
		SQL: `SELECT DISTINCT coalesce(exe, '[' || comm || ']'), user, container, remote
			FROM connections WHERE (:all OR NOT probe AND family IS NOT 'unspec')`})
	if err != nil {
		return err
	}
	p.passing = make(map[shownPair]bool)
	_, err = table.AskVirtual(ctx, p.tape, func() (ask.Result, error) {
		return ask.Run(ctx, p.main, request, ask.EachRow(func(row []format.Value) error {
			p.passing[shownPairOf(string(row[0].Bytes), row[1], row[2], string(row[3].Bytes))] = true
			return nil
		}))
	})
	return ask.ExplainLimit(ctx, p.request.Timeout, err)
}
