package report

import (
	"context"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/pairs"
	"github.com/conntape/conntape/query/table"
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
	*table.Reading
	length   int64   // of a bucket, ns
	address  []int32 // labels of places
	numbers  map[int64]int32
	buckets  []bucketTotal
	near     int32       // last returned number
	programs pairs.Table // bucket and program

	// A place comes once in a run. So in a bucket without other runs, comparing with the last place finds repetitions;
	// other buckets use a table.
	edges   pairs.Table          // bucket and address
	others  [][2]int64           // buckets of the other segments
	ends    [2]int64             // first and last bucket of this run
	segment *table.SegmentSource // of this run
	twice   []bool               // addresses with several endpoints in it
}

func (t *timelineReader) Begin(s *table.SegmentSource, first, last int64) {
	t.ends = [2]int64{first / t.length, last / t.length}
	for i := range t.buckets {
		t.buckets[i].place = 0
	}
	if t.segment == s {
		return
	}
	t.segment, t.others = s, nil
	for _, other := range t.Segments {
		if other != s {
			t.others = append(t.others, [2]int64{other.First / t.length, other.Last / t.length})
		}
	}
	t.twice = make([]bool, len(t.address))
	seen := make([]bool, len(t.address))
	for _, p := range s.Place {
		a := t.address[p]
		t.twice[a], seen[a] = seen[a], true
	}
}

func (t *timelineReader) End(*table.SegmentSource) error { return nil }

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

func (t *timelineReader) Take(s *table.SegmentSource, c *table.Contact) error {
	to, how := s.Place[c.Remote], &s.Shape[c.Shape]
	if !t.All && t.IsProbe(to, how) {
		return nil
	}
	program, address := t.ProgramOf[s.Task[c.Task].Actor], t.address[to]
	for i := 0; i < len(c.IDs); {
		bucket := c.IDs[i] / t.length
		more := i + 1
		for start := bucket * t.length; more < len(c.IDs); more++ {
			if bucket > 0 && uint64(c.IDs[more]-start) >= uint64(t.length) || bucket <= 0 && c.IDs[more]/t.length != bucket {
				break
			}
		}
		n := int64(more - i)
		if c.Counts != nil {
			n = 0
			for _, count := range c.Counts[i:more] {
				n += count
			}
		}
		i = more
		number := t.number(bucket)
		b := &t.buckets[number]
		b.n += n
		switch {
		case how.Denied:
			b.denied += n
		case how.Failed:
			b.failed += n
		}
		t.programs.Add(pairs.Of(number, program))
		switch {
		case t.twice[address] || t.isShared(bucket):
			t.edges.Add(pairs.Of(number, address))
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
	for _, key := range other.programs.Keys {
		t.programs.Add(pairs.Of(own[key>>32], int32(key)))
	}
	for _, key := range other.edges.Keys {
		t.edges.Add(pairs.Of(own[key>>32], int32(key)))
	}
}

// secondsOf returns the parameter seconds, limited to all of time.
func secondsOf(r ask.Request) int64 {
	if r.Params["seconds"].Kind == format.Null {
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
func (p *Planned) timeline(ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
	seconds := secondsOf(p.request)
	_, labels := r.Labels()
	newTimeline := func() *timelineReader {
		return &timelineReader{Reading: r, length: seconds * int64(time.Second), address: labels, numbers: make(map[int64]int32)}
	}
	var readers collected[*timelineReader]
	if err := r.Contacts(ctx, func() table.ContactReader { return readers.add(newTimeline()) }); err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	t := newTimeline()
	for _, other := range readers.list {
		t.merge(other)
	}
	for _, key := range t.programs.Keys {
		t.buckets[key>>32].programs++
	}
	for _, key := range t.edges.Keys {
		t.buckets[key>>32].places++
	}
	var first, last, most int64 = table.Never, -table.Never, 0
	for _, b := range t.buckets {
		first, last, most = min(first, b.bucket), max(last, b.bucket), max(most, b.n)
	}
	rows := 0
	if len(t.buckets) > 0 {
		rows = int(last - first + 1)
	}
	columns := []string{"time", "n", "programs", "destinations", "failed", "denied", "bar"}
	return p.writeRows(ctx, out, columns, rows, func(i int) []format.Value {
		bucket := first + int64(i)
		at := format.TextValue(time.Unix(bucket*seconds, 0).UTC().Format(format.TapeTime))
		number, ok := t.numbers[bucket]
		if !ok {
			return []format.Value{at, format.IntValue(0), format.IntValue(0), format.IntValue(0), format.IntValue(0), format.IntValue(0), format.TextValue("")}
		}
		b := &t.buckets[number]
		return []format.Value{at, format.IntValue(b.n), format.IntValue(b.programs), format.IntValue(b.places), format.IntValue(b.failed), format.IntValue(b.denied), barText(b.n, most)}
	})
}
