package query

import (
	"context"
	"time"
)

// bucketTotal is a bucket of timeline, in one reader.
type bucketTotal struct {
	bucket            int64
	n, failed, denied int64
	programs, places  int64 // different ones
	place             int32 // last place of this run, from 1
}

// timelineReader counts flows by time.
type timelineReader struct {
	*reading
	length   int64   // of a bucket, ns
	address  []int32 // of places: equal for the same address and port
	numbers  map[int64]int32
	buckets  []bucketTotal
	near     int32     // last returned number
	programs pairTable // bucket and program

	// A place comes once in a run. So in a bucket without other runs, comparing with the last place finds repetitions;
	// other buckets use a table.
	edges   pairTable      // bucket and address
	others  [][2]int64     // buckets of the other segments
	ends    [2]int64       // first and last bucket of this run
	segment *segmentSource // of this run
	twice   []bool         // addresses with several endpoints in it
}

func (t *timelineReader) begin(s *segmentSource, first, last int64) {
	t.ends = [2]int64{first / t.length, last / t.length}
	for i := range t.buckets {
		t.buckets[i].place = 0
	}
	if t.segment == s {
		return
	}
	t.segment, t.others = s, nil
	for _, other := range t.segments {
		if other != s {
			t.others = append(t.others, [2]int64{other.first / t.length, other.last / t.length})
		}
	}
	t.twice = make([]bool, len(t.address))
	seen := make([]bool, len(t.address))
	for _, p := range s.place {
		a := t.address[p]
		t.twice[a], seen[a] = seen[a], true
	}
}

func (t *timelineReader) end(*segmentSource) error { return nil }

// isShared reports whether other runs may touch a bucket.
func (t *timelineReader) isShared(bucket int64) bool {
	if bucket == t.ends[0] || bucket == t.ends[1] {
		return true
	}
	for _, other := range t.others {
		if bucket >= other[0] && bucket <= other[1] {
			return true
		}
	}
	return false
}

func (t *timelineReader) take(s *segmentSource, c *contact) error {
	to, how := s.place[c.remote], &s.shape[c.shape]
	if !t.all && t.isProbe(to, how) {
		return nil
	}
	program, address := t.programOf[s.task[c.task].actor], t.address[to]
	for i := 0; i < len(c.ids); {
		bucket := c.ids[i] / t.length
		more := i + 1
		for start := bucket * t.length; more < len(c.ids); more++ {
			if bucket > 0 && uint64(c.ids[more]-start) >= uint64(t.length) || bucket <= 0 && c.ids[more]/t.length != bucket {
				break
			}
		}
		n := int64(more - i)
		if c.counts != nil {
			n = 0
			for _, count := range c.counts[i:more] {
				n += count
			}
		}
		i = more
		number := t.number(bucket)
		b := &t.buckets[number]
		b.n += n
		switch {
		case how.denied:
			b.denied += n
		case how.failed:
			b.failed += n
		}
		t.programs.add(pairOf(number, program))
		switch {
		case t.twice[address] || t.isShared(bucket):
			t.edges.add(pairOf(number, address))
		case b.place != address+1:
			b.place = address + 1
			b.places++
		}
	}
	return nil
}

// number returns the number of a bucket.
func (t *timelineReader) number(bucket int64) int32 {
	if near := t.near + 1; near < int32(len(t.buckets)) && t.buckets[near].bucket == bucket { // mostly in order
		t.near = near
		return near
	}
	number, ok := t.numbers[bucket]
	if !ok {
		number = int32(len(t.buckets))
		t.numbers[bucket] = number
		t.buckets = append(t.buckets, bucketTotal{bucket: bucket})
	}
	t.near = number
	return number
}

// merge adds the counts of another reader.
func (t *timelineReader) merge(other *timelineReader) {
	own := make([]int32, len(other.buckets))
	for i := range other.buckets {
		from := &other.buckets[i]
		own[i] = t.number(from.bucket)
		b := &t.buckets[own[i]]
		b.n += from.n
		b.failed += from.failed
		b.denied += from.denied
		b.places += from.places
	}
	for _, key := range other.programs.keys {
		t.programs.add(pairOf(own[key>>32], int32(key)))
	}
	for _, key := range other.edges.keys {
		t.edges.add(pairOf(own[key>>32], int32(key)))
	}
}

// secondsOf returns the parameter seconds, limited to all of time.
func secondsOf(r Request) int64 {
	if r.Params["seconds"].Kind == Null {
		return 3600
	}
	return min(max(r.Params["seconds"].Int, 1), 1<<33)
}

// RoundBucket returns the shortest round length, in seconds, that divides a duration into at most 48 buckets.
func RoundBucket(whole time.Duration) int64 {
	for _, length := range []int64{1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400} {
		if whole <= time.Duration(length)*48*time.Second {
			return length
		}
	}
	return 30 * 86400
}

// timeline answers canned/timeline.sql.
func (p *Planned) timeline(ctx context.Context, r *reading, out RowWriter) (Result, error) {
	seconds := secondsOf(p.request)
	addresses := r.addresses(true)
	newTimeline := func() *timelineReader {
		return &timelineReader{reading: r, length: seconds * int64(time.Second), address: addresses, numbers: make(map[int64]int32)}
	}
	var readers collected[*timelineReader]
	if err := r.contacts(ctx, func() contactReader { return readers.add(newTimeline()) }); err != nil {
		return Result{}, explainLimit(ctx, p.request.Timeout, err)
	}
	t := newTimeline()
	for _, other := range readers.list {
		t.merge(other)
	}
	for _, key := range t.programs.keys {
		t.buckets[key>>32].programs++
	}
	for _, key := range t.edges.keys {
		t.buckets[key>>32].places++
	}
	var first, last, most int64 = never, -never, 0
	for _, b := range t.buckets {
		first, last, most = min(first, b.bucket), max(last, b.bucket), max(most, b.n)
	}
	rows := 0
	if len(t.buckets) > 0 {
		rows = int(last - first + 1)
	}
	columns := []string{"time", "n", "programs", "destinations", "failed", "denied", "bar"}
	return p.writeRows(ctx, out, columns, rows, func(i int) []Value {
		bucket := first + int64(i)
		at := textValue(time.Unix(bucket*seconds, 0).UTC().Format(tapeTime))
		number, ok := t.numbers[bucket]
		if !ok {
			return []Value{at, intValue(0), intValue(0), intValue(0), intValue(0), intValue(0), textValue("")}
		}
		b := &t.buckets[number]
		return []Value{at, intValue(b.n), intValue(b.programs), intValue(b.places), intValue(b.failed), intValue(b.denied), barText(b.n, most)}
	})
}
