package coverage

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
)

// Removed is the history of a window that retention removed for one reason: whole segments, which may extend beyond the
// window.
type Removed struct {
	Cause       string     `json:"cause"`       // size, age, full …
	At          *time.Time `json:"at"`          // removal of the last of them
	From        *time.Time `json:"from"`        // covered span
	To          *time.Time `json:"to"`          //
	Segments    int        `json:"segments"`    //
	Connections *int64     `json:"connections"` // connections in them; null: unknown
}

// Gone is history that the tape no longer has.
type Gone struct {
	Removed        []Removed `json:"removed"`         // by retention
	RemovedBefore  int       `json:"removed_before"`  // segments removed before those, of which nothing more is known
	RemovedUnknown string    `json:"removed_unknown"` // why the removals are unknown; "": they are known
}

// newGone returns the removals of a window.
func newGone(r store.Removals, w input.Window) Gone {
	g := Gone{Removed: removedIn(r, w), RemovedBefore: r.Untold}
	if r.Err != nil {
		g.RemovedUnknown = r.Err.Error()
	}
	return g
}

// any reports whether anything has gone, or may have.
func (g *Gone) any() bool { return len(g.Removed) > 0 || g.RemovedBefore > 0 || g.RemovedUnknown != "" }

// removedIn adds up the removals of a window by cause.
func removedIn(r store.Removals, w input.Window) []Removed {
	all := []Removed{}
	for _, e := range r.List {
		if !w.Overlaps(e.From, e.To) {
			continue
		}
		i := slices.IndexFunc(all, func(o Removed) bool { return o.Cause == e.Cause })
		if i < 0 {
			i = len(all)
			all = append(all, Removed{Cause: e.Cause, Connections: new(int64)})
		}
		all[i].add(e)
	}
	slices.SortStableFunc(all, func(a, b Removed) int { return cmp.Compare(deref(a.From).UnixNano(), deref(b.From).UnixNano()) })
	return all
}

func (r *Removed) add(e store.Removal) {
	r.Segments++
	if r.At == nil || e.At.After(*r.At) {
		r.At = timeOrNil(e.At)
	}
	if !e.From.IsZero() && (r.From == nil || e.From.Before(*r.From)) {
		r.From = timeOrNil(e.From)
	}
	if !e.To.IsZero() && (r.To == nil || e.To.After(*r.To)) {
		r.To = timeOrNil(e.To)
	}
	if e.Connects < 0 {
		r.Connections = nil
	}
	if r.Connections != nil {
		*r.Connections += e.Connects
	}
}

// text describes it, without the noun.
func (r *Removed) text(zone *time.Location) string {
	held := "an unknown number of connections"
	if r.Connections != nil {
		held = digits(*r.Connections) + " connections"
		if *r.Connections == 1 {
			held = "1 connection"
		}
	}
	at := "at"
	if r.Segments > 1 {
		at = fmt.Sprintf("in %d segments, the last at", r.Segments)
	}
	return fmt.Sprintf("(%s) %s %s: %s to %s, %s", r.Cause, at, input.Stamp(deref(r.At), zone), input.Stamp(deref(r.From), zone), input.Stamp(deref(r.To), zone), held)
}

// gone finds the removals in the window. It reads the log only if the window begins before the oldest segment.
func (s *Coverage) gone(c store.Coverage, w input.Window) Gone {
	if s.From != nil && !w.Since.IsZero() && !w.Since.Before(*s.From) {
		return Gone{Removed: []Removed{}}
	}
	return newGone(c.Removals(), w)
}

// lines describes the removals.
func (g *Gone) lines(zone *time.Location) []string {
	var lines []string
	for _, r := range g.Removed {
		lines = append(lines, "removed by retention "+r.text(zone))
	}
	if g.RemovedBefore > 0 {
		before := "before that"
		if len(g.Removed) == 0 {
			before = "before this"
		}
		lines = append(lines, fmt.Sprintf("%s GONE %s, and the log does not tell why", count(uint64(g.RemovedBefore), "segment"), before))
	}
	if g.RemovedUnknown != "" {
		lines = append(lines, "what was removed before this CANNOT BE KNOWN: "+g.RemovedUnknown)
	}
	return lines
}

// allRemoved reports whether the whole window was recorded but removed.
func (s *Coverage) allRemoved() bool {
	return s.Until != nil && s.From != nil && !s.Until.After(*s.From) && s.any()
}

// digits writes 1234567 as 1,234,567.
func digits(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
