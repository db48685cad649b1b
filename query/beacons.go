package query

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A beacon is found in the times of one program's connects to one destination, over all segments. So the tape's flows
// are held in memory, packed as in a posting and grouped by destination, and destinations are scored one by one.

// mostHeld limits the bytes of flows held, in blocks of blockBytes.
const (
	mostHeld   = 96 << 20
	blockBytes = 1 << 20
)

// heldPart is the flows with one destination in one segment.
type heldPart struct {
	label, number int32 // of the segment
	packed        []byte
}

// holder packs contacts.
type holder struct {
	*reading
	*beaconNames
	pass, passes int32 // destinations of other passes are left out
	held         *atomic.Int64
	from, to     int64 // first and last connect that counts
	parts        []heldPart
	block        []byte
	open         bool // the last part continues
}

// beaconNames is the dictionary of destinations and actors: a beacon is one of each.
type beaconNames struct {
	labels *names
	near   []bool  // of labels: not an Internet address
	label  []int32 // of places
	actor  []int32 // of actors: an actor whose user has no name, whatever the uid
}

func newBeaconNames(r *reading) *beaconNames {
	b := &beaconNames{labels: newNames()}
	for _, p := range r.places {
		b.label = append(b.label, b.labels.of(p.label()))
		if len(b.near) < len(b.labels.list) {
			a, ok := parseAddress(p.address)
			b.near = append(b.near, p.port < 0 || !ok || isPrivateAddress(a))
		}
	}
	numbers := make(map[string]int32)
	for i := range r.actors {
		a := r.actors[i]
		a.user = namedUser(a.user)
		key := a.key()
		if _, ok := numbers[key]; !ok {
			numbers[key] = int32(i)
		}
		b.actor = append(b.actor, numbers[key])
	}
	return b
}

// namedUser returns a user's name, NULL for a bare uid.
func namedUser(user Value) Value {
	if user.Kind == Integer {
		return Value{}
	}
	return user
}

func (h *holder) begin(*segmentSource, int64, int64) { h.open = false }

func (h *holder) end(*segmentSource) error { return nil }

// take packs a flow: actor, connections, connects minus connections, the difference between wall clock and ids at both
// ends, the first id and the steps from it.
func (h *holder) take(s *segmentSource, c *contact) error {
	label := h.label[s.place[c.remote]]
	if !h.all && h.isProbe(s.place[c.remote], &s.shape[c.shape]) {
		return nil
	}
	h.from, h.to = min(h.from, c.ids[0]), max(h.to, c.ids[len(c.ids)-1])
	if label%h.passes != h.pass {
		return nil
	}
	const most = binary.MaxVarintLen64
	if need := most * (5 + len(c.ids)); cap(h.block)-len(h.block) < need {
		if h.held.Add(int64(cap(h.block))) > mostHeld {
			return errTooMuch
		}
		h.block, h.open = make([]byte, 0, max(blockBytes, need)), false
	}
	last := len(h.parts) - 1
	h.open = h.open && h.parts[last].label == label
	start := len(h.block)
	firstWall, lastWall := s.walls(c)
	b := binary.AppendUvarint(h.block, uint64(h.actor[s.task[c.task].actor]))
	b = binary.AppendUvarint(b, uint64(len(c.ids)))
	b = binary.AppendUvarint(b, uint64(c.n-int64(len(c.ids))))
	b = binary.AppendVarint(b, firstWall-c.ids[0])
	b = binary.AppendVarint(b, lastWall-c.ids[len(c.ids)-1])
	b = binary.AppendVarint(b, c.ids[0])
	for i := 1; i < len(c.ids); i++ {
		b = binary.AppendUvarint(b, uint64(c.ids[i]-c.ids[i-1]))
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
func (p *Planned) beacons(ctx context.Context, r *reading, out RowWriter) (Result, error) {
	names := newBeaconNames(r)
	var found []beacon
	err := inPasses(beaconPasses(r), func(pass, passes int32) error {
		if pass == 0 {
			found = nil
		}
		var held atomic.Int64
		var holders collected[*holder]
		err := r.contacts(ctx, func() contactReader {
			return holders.add(&holder{reading: r, beaconNames: names, pass: pass, passes: passes, held: &held, from: never, to: -never})
		})
		if err != nil {
			return err
		}
		from, span := int64(0), int64(0)
		if len(holders.list) > 0 {
			to := int64(-never)
			from = never
			for _, h := range holders.list {
				from, to = min(from, h.from), max(to, h.to)
			}
			span = to - from
		}
		parts, starts := byLabel(holders.list, len(names.labels.list))
		found = append(found, scoreAll(r, names, parts, starts, scoring{p.request.Params["least"].Int, float64(p.request.Params["score"].Int), from, span})...)
		return context.Cause(ctx)
	})
	if err != nil {
		return Result{}, explainLimit(ctx, p.request.Timeout, err)
	}
	countAlike(found)
	found = slices.DeleteFunc(found, func(b beacon) bool {
		return p.passing != nil && !p.passing[shownPairOf(b.who.exe, namedUser(b.who.user), b.who.container, b.label)]
	})
	slices.SortFunc(found, func(a, b beacon) int {
		return cmp.Or(cmp.Compare(a.usual(), b.usual()), -cmp.Compare(a.score, b.score), -cmp.Compare(a.n, b.n), cmp.Compare(a.label, b.label), cmp.Compare(a.who.exe, b.who.exe))
	})
	return p.writeBeacons(ctx, found, out)
}

// beaconPasses returns the number of passes in which the flows will probably fit, with room for the garbage of the
// previous pass. A segment takes some 30 bytes for a connection that is packed in 10.
func beaconPasses(r *reading) int32 {
	expected := 0.0
	for _, s := range r.segments {
		part := (float64(min(r.to, s.last)) - float64(max(r.from, s.first))) / max(1, float64(s.last)-float64(s.first))
		expected += part * float64(s.tape.Segments()[s.index].Bytes) / 3
	}
	passes := int32(1)
	for expected > mostHeld/3*2 && passes < mostPasses {
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
func scoreAll(r *reading, names *beaconNames, parts []heldPart, starts []int32, how scoring) []beacon {
	var next atomic.Int32
	var wait sync.WaitGroup
	var scorers collected[*beaconScorer]
	for range parallelism() {
		wait.Go(func() {
			b := scorers.add(&beaconScorer{reading: r, scoring: how, of: make([]int32, len(r.actors))})
			for {
				label := next.Add(1) - 1
				if int(label) >= len(names.labels.list) {
					return
				}
				if of := parts[starts[label]:starts[label+1]]; len(of) > 0 {
					b.destination(names.labels.list[label], names.near[label], of)
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

// writeBeacons writes the rows of canned/beacons.sql.
func (p *Planned) writeBeacons(ctx context.Context, found []beacon, out RowWriter) (Result, error) {
	rows := make([]firstRow, len(found))
	for i, b := range found {
		rows[i] = b.firstRow
	}
	columns := []string{"score", "usual", "times", "histogram", "duration", "interval", "jitter", "n", "programs", "alike", "days", "sparkline", "first_time", "last_time", "user", "container", "exe", "remote", "cmdline", "ancestry"}
	return p.writeFirsts(ctx, out, columns, rows, func(i int, first []Value) []Value {
		b := found[i]
		return []Value{
			{Kind: Real, Real: b.score}, intValue(int64(b.usual())), {Kind: Real, Real: b.times}, {Kind: Real, Real: b.histogram}, {Kind: Real, Real: b.duration},
			{Kind: Real, Real: b.interval}, {Kind: Real, Real: b.jitter}, intValue(b.n), intValue(b.programs), intValue(b.alike), intValue(b.days), textValue(b.sparkline), wallText(b.firstWall), wallText(b.lastWall),
			namedUser(b.who.user), b.who.container, textValue(b.who.exe), textValue(b.label), first[6], first[7],
		}
	})
}

// shownPair is a program with user and container, and a destination.
type shownPair string

func shownPairOf(exe string, user, container Value, remote string) shownPair {
	var key []byte
	for _, v := range []Value{textValue(exe), user, container, textValue(remote)} {
		key = fmt.Appendf(key, "%d %d %s", v.Kind, len(v.Bytes), v.Bytes)
	}
	return shownPair(key)
}

// readPassing reads the pairs that have a connection which passes the filter: passing of canned/beacons.sql.
func (p *Planned) readPassing(ctx context.Context) error {
	request, err := p.filter.Apply(Request{Clock: p.request.Clock, Params: map[string]Value{"all": p.request.Params["all"]},
		SQL: `SELECT DISTINCT coalesce(exe, '[' || comm || ']'), user, container,` + remoteAndOutcome[:strings.Index(remoteAndOutcome, "END AS remote")] + `END
			FROM connections WHERE (:all OR family IS NOT 'unspec' AND NOT (type = 'dgram' AND remote_port IS 0))`})
	if err != nil {
		return err
	}
	p.passing = make(map[shownPair]bool)
	_, err = askVirtual(ctx, p.tape, func() (Result, error) {
		return Run(ctx, p.main, request, eachRow(func(row []Value) error {
			p.passing[shownPairOf(string(row[0].Bytes), row[1], row[2], string(row[3].Bytes))] = true
			return nil
		}))
	})
	return explainLimit(ctx, p.request.Timeout, err)
}
