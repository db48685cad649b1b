package report

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
)

// series is the connects of one actor to one destination.
type series struct {
	actor               int32
	n                   int64
	first               int64
	firstIn             int32
	firstWall, lastWall int64
	ids                 []int64
	runs                []run
}

// run is the ids of a series that are connections of one segment: up to the index end.
type run struct {
	segment int32
	end     int
}

// newest returns the last of the series's connections, mostSizes at most.
func (s *series) newest() []table.RowKey {
	rows := make([]table.RowKey, 0, len(s.ids))
	from := 0
	for _, r := range s.runs {
		for _, id := range s.ids[from:r.end] {
			rows = append(rows, table.RowKey{Segment: r.segment, ID: id})
		}
		from = r.end
	}
	if len(rows) <= mostSizes {
		return rows
	}
	slices.SortFunc(rows, func(a, b table.RowKey) int { return cmp.Compare(b.ID, a.ID) })
	return slices.Clone(rows[:mostSizes])
}

// mostSizes is the number of connections of a pair whose sizes are read. They are in no index.
const mostSizes = 1000

// add unpacks a flow packed by holder.take, and returns the bytes after it.
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
		s.n, s.first, s.firstIn, s.firstWall, s.lastWall = 0, id, number, firstWall, -table.Never
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
	s.runs = append(s.runs, run{number, len(s.ids)})
	return packed
}

// beacon is a row of the query beacons.
type beacon struct {
	score                      float64
	times, histogram, duration float64        // parts of the score, of 1 each
	sizes                      float64        // likewise; negative: unknown
	sized                      []table.RowKey // connections whose sizes are in question, until they are read
	interval, jitter           float64
	programs                   int64 // programs that connect to the destination
	alike                      int64 // destinations with a beacon of the same program
	days                       int64
	near                       bool // the destination is no address of the Internet
	settled                    bool // it began before the window
	firstRow
	firstWall, lastWall int64
	who                 *table.Actor
	sparkline           string
}

// usual counts signs of an ordinary beacon: it began before the window, the destination is near, many programs or
// destinations do the same.
func (b *beacon) usual() int {
	most := max(b.programs, b.alike)
	return format.ZeroOrOne(b.settled) + format.ZeroOrOne(b.near) + format.ZeroOrOne(most > 2) + format.ZeroOrOne(most > 9)
}

// countAlike counts the destinations to which a program has beacons.
func countAlike(found []beacon) {
	alike := make(map[string]int64)
	for i := range found {
		alike[found[i].who.Exe]++
	}
	for i := range found {
		found[i].alike = alike[found[i].who.Exe]
	}
}

// scoring holds the limits and the window that a score depends on.
type scoring struct {
	least int64   // connects
	score float64 // of 100
	from  int64   // first connect of the window
	span  int64   // from the first connect to the last
}

// beaconScorer scores the destinations of one worker.
type beaconScorer struct {
	*table.Reading
	scoring
	of     []int32 // of actors: number of their series + 1 at this destination
	series []series
	ids    []int64 // sorted
	beats  []int64
	gaps   []int64
	sorted []int64
	found  []beacon
}

// destination scores every actor that connected to a destination.
func (b *beaconScorer) destination(label string, near bool, parts []heldPart) {
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
				s := &b.series[used-1]
				s.actor, s.ids, s.runs = int32(actor), s.ids[:0], s.runs[:0]
			}
			rest = b.series[b.of[actor]-1].add(part.number, rows, rest[n:])
		}
	}
	programs := make(map[string]bool)
	for i := range b.series[:used] {
		programs[b.Actors[b.series[i].actor].Exe] = true
	}
	for i := range b.series[:used] {
		s := &b.series[i]
		b.of[s.actor] = 0
		if one, ok := b.judge(s); ok {
			one.firstRow = firstRow{s.first, int(s.firstIn), s.n, label}
			one.near, one.programs = near, int64(len(programs))
			one.firstWall, one.lastWall, one.who = s.firstWall, s.lastWall, &b.Actors[s.actor]
			b.found = append(b.found, one)
		}
	}
}

// judge scores all of one series but its sizes, and reports whether the score may be high enough with them.
func (b *beaconScorer) judge(s *series) (beacon, bool) {
	if int64(len(s.ids)) < b.least {
		return beacon{}, false
	}
	ids := s.ids
	if !slices.IsSorted(ids) {
		b.ids = append(b.ids[:0], ids...)
		ids = b.ids
		slices.Sort(ids)
	}
	b.readBeats(ids)
	if n := len(b.beats); int64(n) < b.least || n < 2 {
		return beacon{}, false
	}
	times, q2, away := b.scoreTimes()
	one := beacon{times: times, histogram: scoreHistogram(b.beats), duration: b.scoreDuration(q2), sizes: 1, interval: rounded(float64(q2)/1e9, 3), jitter: rounded(float64(away)/1e9, 3)}
	if one.sum() < b.score {
		return beacon{}, false
	}
	one.sized = s.newest()
	one.sparkline = sparkline(b.beats)
	one.settled = b.beats[0]-b.scoring.from < max(2*q2, b.span/24)
	day := int64(-table.Never)
	for _, beat := range b.beats {
		if d := beat / 86_400_000_000_000; d != day {
			day = d
			one.days++
		}
	}
	return one, true
}

// sum returns the score: the mean of the four parts. Times count twice if sizes are unknown.
func (b *beacon) sum() float64 {
	if b.sizes < 0 {
		return rounded(50*b.times+25*b.histogram+25*b.duration, 1)
	}
	return rounded(25*b.times+25*b.sizes+25*b.histogram+25*b.duration, 1)
}

// readBeats finds the beats in sorted times, and the gaps between them. The last time of a second is its beat. A time
// that follows within a tenth of the gaps' upper quartile belongs to the same beat: a retry, or a second connection of a
// pair.
func (b *beaconScorer) readBeats(ids []int64) {
	b.beats, b.gaps = b.beats[:0], b.gaps[:0]
	for i, id := range ids {
		if i+1 < len(ids) && ids[i+1]/1_000_000_000 == id/1_000_000_000 {
			continue
		}
		if n := len(b.beats); n > 0 {
			b.gaps = append(b.gaps, id-b.beats[n-1])
		}
		b.beats = append(b.beats, id)
	}
	if len(b.gaps) == 0 {
		return
	}
	b.sorted = append(b.sorted[:0], b.gaps...)
	slices.Sort(b.sorted)
	q3 := rankOf(b.sorted, 0.75)
	kept := 1
	for i, gap := range b.gaps {
		if 10*gap >= q3 {
			b.beats[kept] = b.beats[i+1]
			b.gaps[kept-1] = b.beats[kept] - b.beats[kept-1]
			kept++
		}
	}
	b.beats, b.gaps = b.beats[:kept], b.gaps[:kept-1]
}

// sparkline draws the distribution of sorted times over 24 parts of the time from the first to the last, which differ.
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

// scoreTimes scores the regularity of the gaps. It also returns their median and the median deviation from it.
func (b *beaconScorer) scoreTimes() (score float64, q2, away int64) {
	b.sorted = append(b.sorted[:0], b.gaps...)
	skew, spread, q2, away := evenness(b.sorted, 1_000_000_000)
	return (skew + spread) / 2, q2, away
}

// scoreSizes scores how alike the bytes of connections are, and how few. It reorders them.
func scoreSizes(sent []int64) float64 {
	skew, spread, q2, _ := evenness(sent, 16)
	few := max(0, 1-float64(q2)/65536)
	return (skew + spread + few) / 3
}

// evenness returns how symmetric values are, how close to their median, the median and the median deviation from it.
// Quartiles that differ by small, or a tenth of the median, are as good as the same. The values are lost.
func evenness(values []int64, small int64) (skew, spread float64, q2, away int64) {
	slices.Sort(values)
	q1, q2, q3 := rankOf(values, 0.25), rankOf(values, 0.5), rankOf(values, 0.75)
	skew = 1
	if q3-q1 > max(small, q2/10) && q2 != q1 && q2 != q3 {
		skew = 1 - math.Abs(float64(q1+q3-2*q2))/float64(q3-q1)
	}
	for i, value := range values {
		values[i] = max(value-q2, q2-value)
	}
	slices.Sort(values)
	away = rankOf(values, 0.5)
	return skew, max(0, 1-float64(away)/float64(max(1, q2))), q2, away
}

// scoreHistogram scores how evenly the beats are spread over up to 24 parts of the time, or over the parts that have
// beats, for a host that is off at night. Fewer than 24 beats prove less and count less.
func scoreHistogram(beats []int64) float64 {
	parts := int64(min(24, max(1, len(beats)/4)))
	var crowd [24]int64
	first, length := beats[0], beats[len(beats)-1]-beats[0]
	for _, t := range beats {
		crowd[min(parts-1, (t-first)*parts/length)]++
	}
	n, squares, used := int64(len(beats)), int64(0), int64(0)
	for _, c := range crowd {
		squares += c * c
		used += int64(format.ZeroOrOne(c > 0))
	}
	uneven := func(parts int64) float64 { return math.Sqrt(float64(parts*squares-n*n)) / float64(n) }
	score := 1 - uneven(parts)
	if used >= 6 {
		score = max(score, 0.9*(1-uneven(used)))
	}
	return max(0, score) * min(1, float64(n)/24)
}

// scoreDuration scores the part of the window with beats, or the longest series of beats without a missing one, up to
// 24.
func (b *beaconScorer) scoreDuration(q2 int64) float64 {
	longest, run := 1, 1
	for _, gap := range b.gaps {
		if run++; gap > 2*q2 {
			run = 1
		}
		longest = max(longest, run)
	}
	covered := float64(b.beats[len(b.beats)-1]-b.beats[0]) / float64(max(1, b.span))
	return min(1, max(covered, float64(longest)/24))
}

// rankOf returns a quantile of sorted values, by nearest rank.
func rankOf(sorted []int64, share float64) int64 {
	return sorted[int(math.Round(float64(len(sorted)-1)*share))]
}

// rounded rounds decimal digits as SQLite does, ties away from zero.
func rounded(f float64, digits int) float64 {
	const beyond = 20 // a tie has only zeros up to there
	if text := strconv.FormatFloat(f, 'f', digits+beyond, 64); strings.HasSuffix(text, "5"+strings.Repeat("0", beyond-1)) {
		f = math.Nextafter(f, math.Copysign(math.Inf(1), f))
	}
	r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', digits, 64), 64)
	return r
}
