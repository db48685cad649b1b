package coverage

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// Coverage goes with every answer: it says what the tape can know about the window. So "no rows" is not taken for
// "nothing happened".
type Coverage struct {
	From      *time.Time `json:"from"` // first moment recorded; null: nothing was
	To        *time.Time `json:"to"`   // last moment known to be recorded
	Since     *time.Time `json:"since"`
	Until     *time.Time `json:"until"`
	Recording bool       `json:"recording"`
	Ended     string     `json:"ended"`             // why recording ended; "": it goes on, or unknown
	GoesOn    bool       `json:"goes_on,omitempty"` // a later segment, which is not here, tells what became of connections that were open at the end

	Gaps        []Gap   `json:"gaps"`          // those that touch the window
	Lost        uint64  `json:"lost"`          // events known to be lost in those gaps
	LostUnknown bool    `json:"lost_unknown"`  // there are more, of unknown number
	Blind       float64 `json:"blind_seconds"` // of the window, each moment once however many gaps have it

	Excluded exclusions `json:"excluded"` // by rules of the administrator, in the window

	Gone // of the window

	Backends   []string `json:"backends"`
	BlindSpots []string `json:"blind_spots"`
	LeftOut    []string `json:"left_out"` // segments that could not be read, with the reason

	Unhashed []Unhashed `json:"unhashed,omitempty"` // programs that no hash finds; only where an answer is about hashes

	Zone    *time.Location         `json:"-"` // of the times in text
	leftOut func() []store.LeftOut // up to now; nil: none since the coverage was made
	told    int                    // number of entries of LeftOut from before the answer
}

// Unhashed is programs that connected and whose hash is not known, for one reason.
type Unhashed struct {
	Source    string `json:"source"`    // why, as in column hash_source
	Programs  uint64 `json:"programs"`  // different ones, by path
	Processes uint64 `json:"processes"` // that executed them
}

// Excluded is a rule of the administrator that kept connects off the tape (record --exclude), and how many.
type Excluded struct {
	Rule     string `json:"rule"`
	Connects uint64 `json:"connects"` // in spans that touch the window
}

// exclusions are the rules that kept connects off the tape.
type exclusions []Excluded

// add adds a gap that a rule made, if it is in the window. It reports false for any other gap.
func (x *exclusions) add(g store.GapInfo, w input.Window) bool {
	rule, ok := segment.ExcludedBy(g.Cause)
	if !ok || !w.Overlaps(g.From, g.To) {
		return ok
	}
	i := slices.IndexFunc(*x, func(e Excluded) bool { return e.Rule == rule })
	if i < 0 {
		i, *x = len(*x), append(*x, Excluded{Rule: rule})
	}
	(*x)[i].Connects += g.Lost.Known
	return true
}

// Gap is a span of time in which the recorder was blind or lost events.
type Gap struct {
	From   *time.Time `json:"from"` // null: unknown
	To     *time.Time `json:"to"`   // null: still open
	Cause  string     `json:"cause"`
	Lost   *uint64    `json:"lost"` // null: unknown
	Detail string     `json:"detail,omitempty"`
}

// newGap converts a gap.
func newGap(g store.GapInfo) Gap {
	gap := Gap{From: timeOrNil(g.From), To: timeOrNil(g.To), Cause: g.Cause, Detail: g.Detail}
	if !g.Lost.Unknown {
		gap.Lost = &g.Lost.Known
	}
	return gap
}

// LostText says how many connections were lost.
func LostText(l store.Loss) string {
	switch {
	case !l.Unknown:
		return count(l.Known, "connection")
	case l.Known == 0:
		return "an unknown number of connections"
	}
	return count(l.Known, "connection") + " and an unknown number more"
}

// New returns the coverage of a window of a tape, with times in zone.
func New(c store.Coverage, w input.Window, zone *time.Location) *Coverage {
	s := &Coverage{
		From: timeOrNil(c.From), To: timeOrNil(c.To), Since: timeOrNil(w.Since), Until: timeOrNil(w.Until),
		Recording: c.Recording, GoesOn: c.GoesOn && !c.Recording, Gaps: []Gap{}, Excluded: exclusions{},
		Backends: orEmpty(c.Backends), BlindSpots: orEmpty(c.BlindSpots), LeftOut: []string{}, Zone: zone,
	}
	if zone == nil {
		s.Zone = time.UTC
	}
	s.Gone = s.gone(c, w)
	var lost store.Loss
	var blind []span
	for _, g := range c.Gaps {
		if isEnd(g, c) {
			s.Ended = g.Cause
			continue
		}
		if s.Excluded.add(g, w) {
			continue
		}
		if !isBlind(g) || g.Cause == segment.CauseFull && s.RemovedUnknown == "" || !w.Overlaps(g.From, g.To) {
			continue
		}
		s.Gaps = append(s.Gaps, newGap(g))
		lost.Add(g.Lost)
		blind = append(blind, blindFor(g, c, w))
	}
	s.Blind = covered(blind).Seconds()
	s.Lost, s.LostUnknown = lost.Known, lost.Unknown
	for _, l := range c.LeftOut {
		s.LeftOut = append(s.LeftOut, fmt.Sprintf("%s: %v", l.Path, l.Err))
	}
	return s
}

// Follow adds segments that are left out later. leftOut returns the earlier ones and, after them, those removed while
// the answer was read.
func (s *Coverage) Follow(leftOut func() []store.LeftOut) {
	s.leftOut, s.told = leftOut, len(s.LeftOut)
}

// LateLeftOut returns the segments removed while the answer was read, with reasons, and adds them to LeftOut. The answer
// may have some of their rows.
func (s *Coverage) LateLeftOut() []string {
	if s.leftOut == nil {
		return nil
	}
	s.LeftOut = s.LeftOut[:s.told]
	for _, l := range s.leftOut()[s.told:] {
		s.LeftOut = append(s.LeftOut, fmt.Sprintf("%s: %v; the answer may be partial", l.Path, l.Err))
	}
	return s.LeftOut[s.told:]
}

// isBlind reports whether a gap is within the tape's life, of which From tells, and is one: between two recorders nothing is lost
// where the kernel kept what happened (record --pin).
func isBlind(g store.GapInfo) bool {
	between := g.Cause == segment.CauseStopped || g.Cause == segment.CauseCrash
	return g.Cause != segment.CauseStart && !(between && g.To.Equal(g.From) && g.Lost == store.Loss{})
}

// isEnd reports whether a gap is the silence after the tape's end, which To tells. A stop may be recorded before the
// last sign of life, such as the begin of a segment.
func isEnd(g store.GapInfo, c store.Coverage) bool {
	return g.To.IsZero() && !c.Recording && (g.Cause == segment.CauseStopped || !g.From.Before(c.To))
}

// A span is a stretch of time; from and to are equal, or to is before from, when it is empty.
type span struct{ from, to time.Time }

// blindFor returns the part of a gap within the window. An open gap lasts until the tape's end.
func blindFor(g store.GapInfo, c store.Coverage, w input.Window) span {
	if g.From.IsZero() {
		return span{}
	}
	to := g.To
	if to.IsZero() {
		to = c.To
	}
	from, to := w.Clip(g.From, to)
	return span{from, to}
}

// covered returns the time that spans cover together, which is less than their sum where they overlap: a recorder that
// stopped and the segment that it left damaged are two gaps of one night.
func covered(spans []span) time.Duration {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var sum time.Duration
	var end time.Time
	for _, s := range spans {
		if s.from.Before(end) {
			s.from = end
		}
		if s.to.After(s.from) {
			sum += s.to.Sub(s.from)
			end = s.to
		}
	}
	return sum
}

// Lines returns the coverage as lines of text, safe to show. With found, blind spots are only counted; otherwise they
// are named, because they may be the reason for an empty answer.
func (s *Coverage) Lines(found bool) []string {
	if s.From == nil {
		return append([]string{"coverage: nothing was recorded on this tape"}, s.LeftOutLines()...)
	}
	line := fmt.Sprintf("coverage: recorded from %s to %s", input.Stamp(*s.From, s.Zone), input.Stamp(deref(s.To), s.Zone))
	switch {
	case s.Recording:
		line += ", recording now"
	case s.Ended != "":
		line += " (then " + s.Ended + ")"
	case s.GoesOn:
	default:
		line += " (then it ended without being stopped)"
	}
	if len(s.Backends) > 0 {
		line += ", backend " + strings.Join(s.Backends, " and ")
	}
	lines := []string{line}
	if asked := s.asked(); asked != "" {
		lines = append(lines, "coverage: "+asked)
	}
	for _, gone := range s.Gone.lines(s.Zone) {
		lines = append(lines, "coverage: "+gone)
	}
	switch {
	case s.allRemoved():
	case len(s.Gaps) > 0:
		blind := time.Duration(s.Blind * float64(time.Second))
		lines = append(lines, fmt.Sprintf("coverage: %s, together %s long, %s lost (see: conntape query gaps)",
			count(uint64(len(s.Gaps)), "gap"), shortSpan(blind), LostText(store.Loss{Known: s.Lost, Unknown: s.LostUnknown})))
	case s.before() || s.after(): // nobody recorded then: that nothing was lost would say too much
	case s.any():
		lines = append(lines, "coverage: no gaps, nothing lost in what is left")
	default:
		lines = append(lines, "coverage: no gaps, nothing lost")
	}
	if s.GoesOn {
		lines = append(lines, "coverage: the tape goes on in a segment that is not here: of connections that were open at the end of this one, the outcome is not in this file")
	}
	for _, e := range s.Excluded {
		lines = append(lines, fmt.Sprintf("coverage: EXCLUDED by %s: %s", e.Rule, count(e.Connects, "connect")))
	}
	lines = append(lines, s.Missing()...)
	switch n := uint64(len(s.BlindSpots)); {
	case n > 0 && found:
		lines[0] += " with " + count(n, "blind spot") + " (see: conntape status)"
	case n > 0:
		lines = append(lines, "coverage: this backend does not see: "+strings.Join(s.BlindSpots, "; "))
	}
	for i := range lines {
		lines[i] = escape.Safe(lines[i])
	}
	return lines
}

// Key is equal for two answers with the same coverage, apart from its end: a tape being recorded covers more each
// second.
func (s *Coverage) Key(found bool) string {
	s.LateLeftOut()
	ended := ""
	if !s.Recording {
		ended = fmt.Sprint(s.Ended, deref(s.To).UnixNano())
	}
	return fmt.Sprint(found, deref(s.From).UnixNano(), s.Since != nil, s.Until != nil, s.Recording, ended, len(s.Gaps), s.Lost, s.Excluded, s.Backends, s.LeftOut)
}

// asked describes the window, and the part of it that the tape cannot know.
func (s *Coverage) asked() string {
	if s.Since == nil && s.Until == nil {
		return ""
	}
	since, until := "the beginning", "the end"
	if s.Since != nil {
		since = input.Stamp(*s.Since, s.Zone)
	}
	if s.Until != nil {
		until = input.Stamp(*s.Until, s.Zone)
	}
	text := "asked for " + since + " to " + until
	switch {
	case s.allRemoved():
		return text + ": ALL OF IT BEFORE what is left of this tape"
	case s.before():
		return text + ": ALL OF IT BEFORE this tape began"
	case s.after():
		return text + ": ALL OF IT AFTER this tape ended"
	case s.Since != nil && s.Since.Before(*s.From) && !s.any():
		return text + ": the first " + shortSpan(s.From.Sub(*s.Since)) + " of it were before this tape began"
	case s.Since != nil && s.Since.Before(*s.From):
		return text + ": the first " + shortSpan(s.From.Sub(*s.Since)) + " of it are before what is left of this tape"
	}
	return text
}

// before tells whether all of the window is before the tape began.
func (s *Coverage) before() bool { return s.Until != nil && !s.Until.After(*s.From) }

// after tells whether all of the window is after the tape ended.
func (s *Coverage) after() bool {
	return s.Since != nil && s.To != nil && s.Since.After(*s.To) && !s.Recording
}

// LeftOutLines returns a line, safe to show, for each segment that could not be read.
func (s *Coverage) LeftOutLines() []string {
	s.LateLeftOut()
	var lines []string
	for _, l := range s.LeftOut {
		lines = append(lines, escape.Safe("coverage: LEFT OUT "+l))
	}
	return lines
}

// Missing returns a line, safe to show, for each segment that could not be read, and one for programs that no hash finds: what
// an answer is told with even if nothing else of its coverage is.
func (s *Coverage) Missing() []string {
	lines := s.LeftOutLines()
	if len(s.Unhashed) == 0 {
		return lines
	}
	var programs, processes uint64
	var why []string
	for _, u := range s.Unhashed {
		programs, processes = programs+u.Programs, processes+u.Processes
		why = append(why, fmt.Sprintf("%s: %d", u.Source, u.Processes))
	}
	return append(lines, escape.Safe(fmt.Sprintf("coverage: hashes CANNOT find all: %s that connected, in %d processes, without a hash (%s)", count(programs, "program"), processes, strings.Join(why, ", "))))
}

// count returns a number with its noun, in the plural where it needs one.
func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// shortSpan formats a duration with about three digits.
func shortSpan(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	case d >= time.Minute:
		text := d.Round(time.Second).String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		return text
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Microsecond).String()
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func deref(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// orEmpty replaces nil by an empty list, for JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
