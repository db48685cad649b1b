package query

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A beacon is told by when one program connects to one destination, over all segments.
// So the contacts of the tape are held, packed as they are in a posting and put together
// by destination, and destinations are scored one by one.

// mostHeld is how many bytes of contacts are held, and blockBytes in how large pieces.
const (
	mostHeld   = 96 << 20
	blockBytes = 1 << 20
)

// heldPart is contacts with one destination.
type heldPart struct {
	label, number int32 // of the segment
	packed        []byte
}

// holder packs contacts.
type holder struct {
	*reading
	*beaconNames
	pass, passes int32 // destinations that are not of the pass are left out
	held         *atomic.Int64
	parts        []heldPart
	block        []byte
	open         bool // the last part goes on
}

// beaconNames are numbers of what beacons are told apart by.
type beaconNames struct {
	labels *names
	label  []int32 // of places
	actor  []int32 // of actors: one without a name of the user, whatever the uid
}

func newBeaconNames(r *reading) *beaconNames {
	b := &beaconNames{labels: newNames()}
	for _, p := range r.places {
		b.label = append(b.label, b.labels.of(p.label()))
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

// namedUser returns the name of a user, NULL for a mere uid.
func namedUser(user Value) Value {
	if user.Kind == Integer {
		return Value{}
	}
	return user
}

func (h *holder) begin(*segmentSource, int64, int64) { h.open = false }

func (h *holder) end(*segmentSource) error { return nil }

// take packs a contact: actor, connections, connects beyond one of each, by how much
// the wall clock differs from the ids at both ends, the first id and the steps from it.
func (h *holder) take(s *segmentSource, c *contact) error {
	label := h.label[s.place[c.remote]]
	if label%h.passes != h.pass || !h.all && h.isProbe(s.place[c.remote], &s.shape[c.shape]) {
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

// series is what one actor did at one destination.
type series struct {
	actor               int32
	n                   int64
	first               int64
	firstIn             int32
	firstWall, lastWall int64
	ids                 []int64
}

// add takes what holder.take packed, and returns the rest.
func (s *series) add(number int32, rows uint64, packed []byte) []byte {
	more, n := binary.Uvarint(packed)
	packed = packed[n:]
	firstWall, n := binary.Varint(packed)
	packed = packed[n:]
	lastWall, n := binary.Varint(packed)
	packed = packed[n:]
	id, n := binary.Varint(packed)
	packed = packed[n:]
	firstWall += id
	if len(s.ids) == 0 {
		s.n, s.first, s.firstIn, s.firstWall, s.lastWall = 0, id, number, firstWall, -never
	}
	if id < s.first {
		s.first, s.firstIn = id, number
	}
	s.n += int64(rows + more)
	s.firstWall = min(s.firstWall, firstWall)
	s.ids = append(s.ids, id)
	for range rows - 1 {
		step, n := binary.Uvarint(packed)
		packed = packed[n:]
		id += int64(step)
		s.ids = append(s.ids, id)
	}
	s.lastWall = max(s.lastWall, lastWall+id)
	return packed
}

// beacon is a row of the query beacons.
type beacon struct {
	score, interval, jitter float64
	firstRow
	firstWall, lastWall int64
	who                 *actor
	sparkline           string
}

// beaconScorer scores the destinations of one worker.
type beaconScorer struct {
	*reading
	least  int64
	score  float64
	of     []int32 // of actors: number of their series + 1 at this destination
	series []series
	beats  []int64
	gaps   []int64
	found  []beacon
}

// destination scores everybody who connected to a destination.
func (b *beaconScorer) destination(label string, parts []heldPart) {
	used := 0
	for _, part := range parts {
		for rest := part.packed; len(rest) > 0; {
			actor, n := binary.Uvarint(rest)
			rest = rest[n:]
			rows, n := binary.Uvarint(rest)
			if b.of[actor] == 0 {
				used++
				b.of[actor] = int32(used)
				if len(b.series) < used {
					b.series = append(b.series, series{})
				}
				b.series[used-1].actor, b.series[used-1].ids = int32(actor), b.series[used-1].ids[:0]
			}
			rest = b.series[b.of[actor]-1].add(part.number, rows, rest[n:])
		}
	}
	for i := range b.series[:used] {
		s := &b.series[i]
		b.of[s.actor] = 0
		if one, ok := b.judge(s); ok {
			one.firstRow = firstRow{s.first, int(s.firstIn), s.n, label}
			one.firstWall, one.lastWall, one.who = s.firstWall, s.lastWall, &b.actors[s.actor]
			b.found = append(b.found, one)
		}
	}
}

// judge scores one series, and reports whether it has the score.
func (b *beaconScorer) judge(s *series) (beacon, bool) {
	if int64(len(s.ids)) < b.least {
		return beacon{}, false
	}
	if !slices.IsSorted(s.ids) {
		slices.Sort(s.ids)
	}
	b.beats, b.gaps = b.beats[:0], b.gaps[:0]
	for i, id := range s.ids {
		if i+1 < len(s.ids) && s.ids[i+1]/1_000_000_000 == id/1_000_000_000 {
			continue // the last of a second is its beat
		}
		if n := len(b.beats); n > 0 {
			b.gaps = append(b.gaps, id-b.beats[n-1])
		}
		b.beats = append(b.beats, id)
	}
	if n := len(b.beats); int64(n) < b.least || n < 2 {
		return beacon{}, false
	}
	one, ok := scoreGaps(b.gaps, b.score)
	if ok {
		one.sparkline = sparkline(b.beats)
	}
	return one, ok
}

// sparkline draws how many of the sorted times lie in each 24th of the time from the
// first to the last, which differ.
func sparkline(times []int64) string {
	const parts = 24
	var n [parts]int
	first, length := times[0], times[len(times)-1]-times[0]
	for _, t := range times {
		n[min(parts-1, (t-first)*parts/length)]++
	}
	most := slices.Max(n[:])
	var line [parts]rune
	for i := range n {
		line[i] = []rune("·▁▂▃▄▅▆▇█")[(8*n[i]+most-1)/most]
	}
	return string(line[:])
}

// beacons writes what canned/beacons.sql says.
func (p *Planned) beacons(ctx context.Context, r *reading, out RowWriter) (Result, error) {
	names := newBeaconNames(r)
	var found []beacon
	err := inPasses(r.beaconPasses(), func(pass, passes int32) error {
		if pass == 0 {
			found = nil
		}
		var held atomic.Int64
		var holders collected[*holder]
		err := r.contacts(ctx, func() contactReader {
			return holders.add(&holder{reading: r, beaconNames: names, pass: pass, passes: passes, held: &held})
		})
		if err != nil {
			return err
		}
		parts, starts := byLabel(holders.list, len(names.labels.list))
		found = append(found, r.scoreAll(names, parts, starts, p.request.Params["least"].Int, float64(p.request.Params["score"].Int))...)
		return context.Cause(ctx)
	})
	if err != nil {
		return Result{}, explainLimit(ctx, p.request.Timeout, err)
	}
	slices.SortFunc(found, func(a, b beacon) int {
		return cmp.Or(-cmp.Compare(a.score, b.score), -cmp.Compare(a.n, b.n), cmp.Compare(a.label, b.label), cmp.Compare(a.who.exe, b.who.exe))
	})
	return p.writeBeacons(ctx, found, out)
}

// beaconPasses returns in how many passes contacts are likely to fit, with room left for
// the garbage of the pass before. A segment takes some 30 bytes for a connection that is
// packed in 10.
func (r *reading) beaconPasses() int32 {
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

// byLabel sorts parts by destination; those of label l are from starts[l] to
// starts[l+1].
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
func (r *reading) scoreAll(names *beaconNames, parts []heldPart, starts []int32, least int64, score float64) []beacon {
	var next atomic.Int32
	var wait sync.WaitGroup
	var scorers collected[*beaconScorer]
	for range parallelism() {
		wait.Go(func() {
			b := scorers.add(&beaconScorer{reading: r, least: least, score: score, of: make([]int32, len(r.actors))})
			for {
				label := next.Add(1) - 1
				if int(label) >= len(names.labels.list) {
					return
				}
				if of := parts[starts[label]:starts[label+1]]; len(of) > 0 {
					b.destination(names.labels.list[label], of)
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

// rounded rounds as SQLite does, by decimal digits, and a tie away from zero.
func rounded(f float64, digits int) float64 {
	const beyond = 20 // a tie has none but zeros so far behind
	if text := strconv.FormatFloat(f, 'f', digits+beyond, 64); strings.HasSuffix(text, "5"+strings.Repeat("0", beyond-1)) {
		f = math.Nextafter(f, math.Copysign(math.Inf(1), f))
	}
	r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', digits, 64), 64)
	return r
}

// writeBeacons writes what canned/beacons.sql says.
func (p *Planned) writeBeacons(ctx context.Context, found []beacon, out RowWriter) (Result, error) {
	rows := make([]firstRow, len(found))
	for i, b := range found {
		rows[i] = b.firstRow
	}
	columns := []string{"score", "interval", "jitter", "n", "sparkline", "first_time", "last_time", "user", "container", "exe", "remote", "cmdline", "ancestry"}
	return p.writeFirsts(ctx, out, columns, rows, func(i int, first []Value) []Value {
		b := found[i]
		return []Value{
			{Kind: Real, Real: b.score}, {Kind: Real, Real: b.interval}, {Kind: Real, Real: b.jitter}, intValue(b.n), textValue(b.sparkline), wallText(b.firstWall), wallText(b.lastWall),
			namedUser(b.who.user), b.who.container, textValue(b.who.exe), textValue(b.label), first[6], first[7],
		}
	})
}
