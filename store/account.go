package store

import (
	"cmp"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"
)

// What became of each event is counted once for a run of the recorder, from its
// start on, whatever the segments that it writes to: the account of a run is what
// the newest segment that has the run says. A sum over segments would count twice
// what is in flight when one follows the other.

// runAccount is what a segment says of one run.
type runAccount struct {
	id        int64  // row of table run
	bootID    string // of its boot
	startBoot int64  // CLOCK_BOOTTIME, ns
	start     int64  // the same on the wall clock, ns since the Unix epoch

	version, backend, blindSpots string

	counters map[string]counted
}

// counted is a counter of a run: when it came to the segment, and when it left it.
type counted struct{ first, value int64 }

// since returns how much was counted in the segment. It is less than nothing of what
// was in flight when the segment began and has landed.
func (c counted) since() int64 { return c.value - c.first }

// same reports whether both are accounts of one run.
func (r *runAccount) same(o *runAccount) bool {
	return r.bootID == o.bootID && r.startBoot == o.startBoot
}

// readAccounts returns the accounts of a segment, oldest run first.
func readAccounts(conn *sqlite.Conn) ([]runAccount, error) {
	var runs []runAccount
	err := execOn(conn, func(q *sqlite.Stmt) error {
		runs = append(runs, runAccount{id: q.ColumnInt64(0), bootID: q.ColumnText(1), startBoot: q.ColumnInt64(2),
			start: q.ColumnInt64(3) + q.ColumnInt64(4), version: q.ColumnText(5), backend: q.ColumnText(6), blindSpots: q.ColumnText(7),
			counters: map[string]counted{}})
		return nil
	}, `SELECT id, boot_id, start_boot_ns, start_ns,
		coalesce((SELECT offset_ns FROM clock WHERE id <= start_ns ORDER BY id DESC LIMIT 1), 0), version, backend, blind_spots
		FROM (SELECT r.id, boot_id, start_boot_ns, start_boot_ns + offset_ns AS start_ns, version, backend, blind_spots
			FROM run r LEFT JOIN boot b ON b.id = r.boot) ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	err = execOn(conn, func(q *sqlite.Stmt) error {
		i, found := slices.BinarySearchFunc(runs, q.ColumnInt64(0), func(r runAccount, id int64) int { return cmp.Compare(r.id, id) })
		if found {
			runs[i].counters[q.ColumnText(1)] = counted{q.ColumnInt64(2), q.ColumnInt64(3)}
		}
		return nil
	}, `SELECT run, name, first, value FROM counter`)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return runs, nil
}

// runAccounts are the runs of a tape, oldest first, each once.
type runAccounts []runAccount

// add takes the runs of the next segment: its first may be the last that is known.
func (a *runAccounts) add(runs []runAccount) {
	for _, r := range runs {
		if last := len(*a) - 1; last >= 0 && (*a)[last].same(&r) && r.id == runs[0].id {
			r.start = (*a)[last].start // as long as the clock was what it was then
			(*a)[last] = r
			continue
		}
		*a = append(*a, r)
	}
}

// counters sums over the runs.
func (a runAccounts) counters() Counters {
	sum := Counters{}
	for _, r := range a {
		for name, c := range r.counters {
			sum[name] += uint64(max(0, c.value))
		}
	}
	return sum
}

// counters is what was counted while the segment was the active one.
func segmentCounters(runs []runAccount) Counters {
	sums := map[string]int64{}
	for _, r := range runs {
		for name, c := range r.counters {
			sums[name] += c.since()
		}
	}
	counters := Counters{}
	for name, n := range sums {
		counters[name] = uint64(max(0, n))
	}
	return counters
}
