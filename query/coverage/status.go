package coverage

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// Status describes a tape, and whether somebody is recording it.
type Status struct {
	Dir      string `json:"dir"`
	TapeID   string `json:"tape_id"`
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`

	Recording bool       `json:"recording"`
	PID       int        `json:"pid"`   // of the recorder; 0: none or unknown
	Since     *time.Time `json:"since"` // start of this recorder
	From      *time.Time `json:"from"`
	To        *time.Time `json:"to"`
	Ended     string     `json:"ended"`     // why recording ended; "": it goes on, or unknown
	Committed *time.Time `json:"committed"` // last durable batch

	Host    string `json:"host"`
	Kernel  string `json:"kernel"`
	BootID  string `json:"boot_id"`
	Version string `json:"version"`

	Backends   []string          `json:"backends"`
	BlindSpots []string          `json:"blind_spots"`
	Counters   map[string]uint64 `json:"counters"`
	// RunCounters are the newest run's counters: during a run they only grow, even when retention removes a segment.
	RunCounters map[string]uint64 `json:"run_counters"`
	// Unaccounted is seen minus stored, coalesced, lost and in flight. During recording these events wait for the next
	// batch.
	Unaccounted int64      `json:"unaccounted"`
	Excluded    exclusions `json:"excluded"` // by rules of the administrator
	Gaps        []Gap      `json:"gaps"`
	Lost        uint64     `json:"lost_in_gaps"`
	LostUnknown bool       `json:"lost_in_gaps_unknown"` // there are more, of unknown number
	Gone                   // of the whole history
	Busiest     *Busiest   `json:"busiest"` // process with the most rows; null: not counted
	LeftOut     []string   `json:"left_out"`

	Sealed   int    `json:"segments_sealed"`
	Room     *int64 `json:"room_bytes"`     // bytes that the tape can still get from the disk, reserve included; null: unknown
	Reserved *int64 `json:"reserved_bytes"` // allocated for the tape but empty; null: unknown
	// Well and Verdict are the result of [Status.Check].
	Well    bool   `json:"well"`
	Verdict string `json:"verdict"`
}

// NewStatus gathers the status of an open tape.
func NewStatus(dir string, c store.Coverage, segments []segment.Info) *Status {
	s := &Status{
		Dir: dir, TapeID: c.TapeID, Segments: len(segments),
		Recording: c.Recording, PID: c.PID, Since: timeOrNil(c.Since),
		From: timeOrNil(c.From), To: timeOrNil(c.To), Committed: timeOrNil(c.LastBatch),
		Backends: orEmpty(c.Backends), BlindSpots: orEmpty(c.BlindSpots),
		Counters: map[string]uint64{}, RunCounters: map[string]uint64{}, Gone: newGone(c.Removals(), input.Window{}), Excluded: exclusions{}, Gaps: []Gap{}, Lost: c.Lost.Known, LostUnknown: c.Lost.Unknown, LeftOut: []string{},
	}
	for _, g := range segments {
		s.Bytes += g.Bytes
		if g.State == segment.StateClosed {
			s.Sealed++
		}
		s.Host, s.Kernel, s.BootID, s.Version = g.Host, g.Kernel, g.BootID, g.Version
	}
	maps.Copy(s.Counters, c.Counters)
	maps.Copy(s.RunCounters, c.RunCounters)
	s.Unaccounted = int64(s.Counters["seen"]) - int64(s.Counters["stored"]+s.Counters["coalesced"]+s.Counters["excluded"]+s.Counters["lost"]+s.Counters["in_flight"])
	for _, g := range c.Gaps {
		switch {
		case isEnd(g, c):
			s.Ended = g.Cause
		case g.Cause == segment.CauseFull && s.RemovedUnknown == "": // listed among the removed
		case s.Excluded.add(g, input.Window{}):
		case isBlind(g):
			s.Gaps = append(s.Gaps, newGap(g))
		}
	}
	for _, l := range c.LeftOut {
		s.LeftOut = append(s.LeftOut, fmt.Sprintf("%s: %v", l.Path, l.Err))
	}
	return s
}

// mostGaps limits the gaps in the text of a status.
const mostGaps = 5

// WriteText writes the status as text, with times in zone. now is the present.
func (s *Status) WriteText(w io.Writer, zone *time.Location, now time.Time) error {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", label, escape.Safe(fmt.Sprintf(format, args...)))
	}
	at := func(t *time.Time) string { return input.Stamp(deref(t), zone) }

	line("tape", "%s, %s, %s", s.Dir, count(uint64(s.Segments), "segment"), shortBytes(s.Bytes))
	switch {
	case s.Recording && s.PID != 0:
		line("recording", "yes, by process %d since %s", s.PID, at(s.Since))
	case s.Recording:
		line("recording", "yes")
	case s.Ended != "":
		line("recording", "NO (%s)", s.Ended)
	default:
		line("recording", "NO, and it was not stopped: the recorder was killed, or the host went down")
	}
	if s.From == nil {
		line("recorded", "nothing yet")
	} else {
		line("recorded", "%s to %s (%s)", at(s.From), at(s.To), shortSpan(deref(s.To).Sub(*s.From)))
	}
	for i, gone := range s.Gone.lines(zone) {
		label := "removed"
		if i > 0 {
			label = ""
		}
		line(label, "%s", strings.TrimPrefix(gone, "removed "))
	}
	s.writeWarnings(line)
	if s.Committed != nil {
		line("last fsync", "%s (%s ago)", at(s.Committed), shortSpan(max(0, now.Sub(*s.Committed))))
	}
	line("host", "%s, kernel %s, recorded by conntape %s", s.Host, s.Kernel, s.Version)
	line("backend", "%s", strings.Join(s.Backends, ", "))
	for i, spot := range s.BlindSpots {
		label := ""
		if i == 0 {
			label = "blind to"
		}
		line(label, "%s", spot)
	}
	s.writeCounters(line)
	for _, e := range s.Excluded {
		line("EXCLUDED", "%s, by %s", count(e.Connects, "connect"), e.Rule)
	}
	s.writeGaps(line, at)
	for _, l := range s.LeftOut {
		line("LEFT OUT", "%s", l)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// leastHistory is the history below which a status warns: an intrusion noticed later would be gone.
const leastHistory = time.Hour

// writeWarnings warns of a short history, or one that a single process has filled.
func (s *Status) writeWarnings(line func(label, format string, args ...any)) {
	if s.From == nil {
		return
	}
	if s.Busiest.most() {
		line("WARNING", "%s", s.Busiest.text())
	}
	if !s.any() {
		return
	}
	if kept := deref(s.To).Sub(*s.From); kept < leastHistory {
		line("WARNING", "the history is only %s long: what was before has been removed. Give the tape more room (--max-size)", shortSpan(max(0, kept)))
	}
}

// writeCounters writes the counters of the account, whether they add up, and all others that are not 0.
func (s *Status) writeCounters(line func(label, format string, args ...any)) {
	main := []string{"seen", "stored", "coalesced", "excluded", "lost"}
	if s.Counters["excluded"] == 0 {
		main = slices.Delete(main, 3, 4)
	}
	for _, name := range main {
		line(name, "%d", s.Counters[name])
	}
	sum := "seen = " + strings.Join(main[1:], " + ")
	if n := s.Counters["in_flight"]; n > 0 {
		sum += fmt.Sprintf(" + %d in flight", n)
	}
	switch {
	case s.Unaccounted == 0:
		line("accounted", "all: %s", sum)
	case s.Recording:
		line("accounted", "%d wait for the next batch: %s", s.Unaccounted, sum)
	default:
		line("accounted", "NO: %s is off by %d", sum, s.Unaccounted)
	}
	var more []string
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		if n := s.Counters[name]; n > 0 && !slices.Contains(main, name) {
			more = append(more, fmt.Sprintf("%s %d", name, n))
		}
	}
	if len(more) > 0 {
		line("in detail", "%s", strings.Join(more, ", "))
	}
}

// writeGaps writes the newest gaps.
func (s *Status) writeGaps(line func(label, format string, args ...any), at func(*time.Time) string) {
	if len(s.Gaps) == 0 {
		line("gaps", "none")
		return
	}
	line("gaps", "%d, with %s lost", len(s.Gaps), LostText(store.Loss{Known: s.Lost, Unknown: s.LostUnknown}))
	for _, g := range s.Gaps[max(0, len(s.Gaps)-mostGaps):] {
		to := "now"
		if g.To != nil {
			to = at(g.To)
		}
		text := fmt.Sprintf("%s to %s, %s", at(g.From), to, g.Cause)
		switch {
		case g.Lost == nil:
			text += ", an unknown number lost"
		case *g.Lost > 0:
			text += fmt.Sprintf(", %d lost", *g.Lost)
		}
		if g.Detail != "" {
			text += ": " + g.Detail
		}
		line("", "%s", text)
	}
	if more := len(s.Gaps) - mostGaps; more > 0 {
		line("", "and %d before them (conntape query gaps)", more)
	}
}

// shortBytes shows a size in binary units.
func shortBytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", size, units[unit])
}

// Busiest is the process with the most rows of a tape, and its share of the history.
type Busiest struct {
	ProcessID   int64  `json:"process_id"`
	PID         int64  `json:"pid"`
	Program     string `json:"program"`
	Connections int64  `json:"connections"` // rows of the process
	Of          int64  `json:"of"`          // rows counted
}

// most reports whether the process wrote over half of the counted connects.
func (b *Busiest) most() bool { return b != nil && b.Connections > b.Of/2 }

// text describes it for the user.
func (b *Busiest) text() string {
	return fmt.Sprintf("process %d (%s) wrote %.0f%% of the history: %s of %s connections. See: conntape query top", b.PID, b.Program,
		100*float64(b.Connections)/float64(b.Of), digits(b.Connections), digits(b.Of))
}
