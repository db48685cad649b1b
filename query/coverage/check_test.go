package coverage

import (
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// TestCheck holds the line for a monitor to what it must notice, each alone, on a tape that is well otherwise.
func TestCheck(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	gap := func(cause string, from, to time.Duration, lost store.Loss) func(*store.Coverage) {
		return func(c *store.Coverage) {
			c.Gaps = append(c.Gaps, store.GapInfo{From: ago(from), To: ago(to), Cause: cause, Lost: lost})
		}
	}
	const plenty = int64(1) << 40
	for name, c := range map[string]struct {
		change func(*store.Coverage)
		room   int64
		want   string
	}{
		"well":           {func(*store.Coverage) {}, plenty, "OK: recording, last batch 3s ago"},
		"room not known": {func(*store.Coverage) {}, -1, "OK"},
		"nobody records": {func(c *store.Coverage) { c.Recording = false }, plenty, "NOT WELL: nobody records"},
		"hangs":          {func(c *store.Coverage) { c.LastBatch = ago(2 * time.Minute) }, plenty, "NOT WELL: no proof of life for 2m"},
		"hook gone":      {gap(segment.CauseHook, 50*time.Minute, 49*time.Minute, store.Loss{Unknown: true}), plenty, "NOT WELL: hook gone in the last hour, an unknown number"},
		"hook gone, open": {func(c *store.Coverage) {
			c.Gaps = []store.GapInfo{{From: ago(9 * time.Hour), Cause: segment.CauseHook}}
		}, plenty, "NOT WELL: hook gone"},
		"long ago":          {gap(segment.CauseHook, 3*time.Hour, 2*time.Hour, store.Loss{Unknown: true}), plenty, "OK"},
		"touched":           {gap(segment.CauseTouched, 2*time.Minute, time.Minute, store.Loss{}), plenty, "NOT WELL: recorder touched"},
		"stolen":            {gap(segment.CauseStolen, 2*time.Minute, time.Minute, store.Loss{Known: 7}), plenty, "NOT WELL: records stolen in the last hour, 7"},
		"lost":              {gap("ring full", 2*time.Minute, time.Minute, store.Loss{Known: 7}), plenty, "NOT WELL: ring full in the last hour, 7"},
		"no connects lost":  {gap("process ring full", 2*time.Minute, time.Minute, store.Loss{}), plenty, "OK"},
		"restart":           {gap(segment.CauseStopped, 20*time.Second, 10*time.Second, store.Loss{}), plenty, "OK"},
		"long stop":         {gap(segment.CauseStopped, 20*time.Minute, 10*time.Minute, store.Loss{}), plenty, "NOT WELL: stopped in the last hour"},
		"crash":             {gap(segment.CauseCrash, 20*time.Second, 10*time.Second, store.Loss{Unknown: true}), plenty, "NOT WELL: crash"},
		"begun just now":    {gap(segment.CauseStart, 20*time.Minute, 10*time.Minute, store.Loss{Unknown: true}), plenty, "OK"},
		"counts off":        {func(c *store.Coverage) { c.Counters["stored"] = 12 }, plenty, "NOT WELL: the account is off by -2"},
		"left out":          {func(c *store.Coverage) { c.LeftOut = make([]store.LeftOut, 1) }, plenty, "NOT WELL: 1 segment left out"},
		"disk full":         {func(*store.Coverage) {}, 1 << 20, "NOT WELL: the disk has only 1.0 MiB for the tape"},
		"several at a time": {func(c *store.Coverage) { c.Recording = false; c.LeftOut = make([]store.LeftOut, 1) }, plenty, "nobody records; 1 segment left out"},
	} {
		covered := store.Coverage{
			Recording: true, From: ago(5 * time.Hour), To: ago(3 * time.Second), LastBatch: ago(3 * time.Second),
			Counters: segment.Counters{"seen": 10, "stored": 10},
		}
		c.change(&covered)
		status := &Status{Unaccounted: int64(covered.Counters["seen"]) - int64(covered.Counters["stored"])}
		line, well := status.Check(covered, c.room, now)
		if !strings.Contains(line, c.want) || well != strings.HasPrefix(line, "OK") || strings.Contains(line, "\n") {
			t.Errorf("%s: %q, well %v; want %q", name, line, well, c.want)
		}
	}
}

// TestCheckShortHistory: a history of which something was removed must be longer than an hour.
func TestCheckShortHistory(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	covered := store.Coverage{Recording: true, From: now.Add(-20 * time.Minute), To: now, LastBatch: now}
	var status Status
	status.RemovedUnknown = "the log is not there"
	if line, well := status.Check(covered, 0, now); well || !strings.Contains(line, "the history is only 20m long") {
		t.Errorf("%q", line)
	}
}
