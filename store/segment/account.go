package segment

import (
	"cmp"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"
)

// A run of the recorder counts its events from its start on, across segments. So the newest segment of a run has the
// run's account. A sum over segments would count events in flight between two segments twice.
// what is in flight when one follows the other.

// Recorder is a segment's account of one run.
type Recorder struct {
	id        int64  // row id in table run
	bootID    string // of the run's boot
	startBoot int64  // CLOCK_BOOTTIME, ns
	Start     int64  // startBoot on the wall clock, ns since the Unix epoch

	Version, Backend, BlindSpots string

	counters map[string]Counted
	packed   string   // counters as the manifest has them, where they are not in counters
	texts    []string // that packed refers to
}

// Counters returns the counters of the run, by name. Only one goroutine at a time may ask.
func (r *Recorder) Counters() map[string]Counted {
	if r.counters == nil && r.packed != "" {
		(&Codec{In: r.packed, Reading: true, texts: r.texts}).counters(&r.counters)
	}
	return r.counters
}

// Unpacked returns the account as it is without a manifest.
func (r *Recorder) Unpacked() Recorder {
	plain := *r
	plain.counters, plain.packed, plain.texts = r.Counters(), "", nil
	return plain
}

// Counted is a counter of a run: at the begin and at the end of the segment.
type Counted struct{ First, Value int64 }

// Since returns the count within the segment. It may be negative: events in flight at its begin may have landed since.
func (c Counted) Since() int64 { return c.Value - c.First }

// Same reports whether both accounts are of one run.
func (r *Recorder) Same(o *Recorder) bool {
	return r.bootID == o.bootID && r.startBoot == o.startBoot
}

// readAccounts returns the accounts of a segment, oldest run first.
func readAccounts(conn *sqlite.Conn) ([]Recorder, error) {
	var runs []Recorder
	err := Exec(conn, func(q *sqlite.Stmt) error {
		runs = append(runs, Recorder{id: q.ColumnInt64(0), bootID: q.ColumnText(1), startBoot: q.ColumnInt64(2),
			Start: q.ColumnInt64(3) + q.ColumnInt64(4), Version: q.ColumnText(5), Backend: q.ColumnText(6), BlindSpots: q.ColumnText(7),
			counters: map[string]Counted{}})
		return nil
	}, `SELECT id, boot_id, start_boot_ns, start_ns,
		coalesce((SELECT offset_ns FROM clock WHERE id <= start_ns ORDER BY id DESC LIMIT 1), 0), version, backend, blind_spots
		FROM (SELECT r.id, boot_id, start_boot_ns, start_boot_ns + offset_ns AS start_ns, version, backend, blind_spots
			FROM run r LEFT JOIN boot b ON b.id = r.boot) ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	err = Exec(conn, func(q *sqlite.Stmt) error {
		i, found := slices.BinarySearchFunc(runs, q.ColumnInt64(0), func(r Recorder, id int64) int { return cmp.Compare(r.id, id) })
		if found {
			runs[i].counters[q.ColumnText(1)] = Counted{q.ColumnInt64(2), q.ColumnInt64(3)}
		}
		return nil
	}, `SELECT run, name, first, value FROM counter WHERE name != ?`, HandoverCounter)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return runs, nil
}

// Recorders are the runs of a tape, oldest first, each once.
type Recorders []Recorder

// Add adds the runs of the next segment; its first may continue the last.
func (a *Recorders) Add(runs []Recorder) {
	for _, r := range runs {
		if last := len(*a) - 1; last >= 0 && (*a)[last].Same(&r) && r.id == runs[0].id {
			r.Start = (*a)[last].Start // the clock was the same until then
			(*a)[last] = r
			continue
		}
		*a = append(*a, r)
	}
}

// Counters sums over the runs.
func (a Recorders) Counters() Counters {
	sum := Counters{}
	for _, r := range a {
		for name, c := range r.Counters() {
			sum[name] += uint64(max(0, c.Value))
		}
	}
	return sum.joined()
}

// Counters of the account that are about other runs.
const (
	// HandoverCounter is no count: the number under which the kernel has what the next recorder needs to go on.
	HandoverCounter = "handover"
	// HandedOverCounter counts what the run had seen, and what the next one accounts for.
	HandedOverCounter = "handed_over"
)

// joined makes one account of those of several runs: what one handed over to the next was seen once.
func (c Counters) joined() Counters {
	if n := c[HandedOverCounter]; n > 0 {
		c["seen"] -= min(c["seen"], n)
	}
	delete(c, HandedOverCounter)
	return c
}

// CountersOf sums up the counts while the segment was active.
func CountersOf(runs []Recorder) Counters {
	sums := map[string]int64{}
	for _, r := range runs {
		for name, c := range r.Counters() {
			sums[name] += c.Since()
		}
	}
	counters := Counters{}
	for name, n := range sums {
		counters[name] = uint64(max(0, n))
	}
	return counters.joined()
}
