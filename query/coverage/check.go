package coverage

import (
	"fmt"
	"strings"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// Limits of a check.
const (
	checkedTime  = time.Hour       // gaps of this time before now count
	oldestProof  = time.Minute     // since the last batch: a recorder writes one every 10 s, even if idle
	longestPause = time.Minute     // between two recorders
	leastRoom    = int64(64) << 20 // on the disk and in the reserve, until the tape is full, bytes
)

// Check says in one line, for a monitor, whether a tape is being recorded well at the time now. room is the number of
// bytes that the tape can still get from the disk (negative: unknown). well is false if somebody has to look.
//
// It checks that a recorder runs and wrote within a minute; that nobody interfered with its hooks, rings or process
// within an hour; that nothing was lost and the kernel's counts add up; that the disk has room; that the history is not
// shorter than an hour.
func (s *Status) Check(c store.Coverage, room int64, now time.Time) (line string, well bool) {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if !c.Recording {
		say("nobody records")
	} else if age := now.Sub(c.LastBatch); age > oldestProof {
		say("no proof of life for %s", shortSpan(age))
	}
	wrong = append(wrong, checkGaps(c.Gaps, now)...)
	if s.Unaccounted < 0 || !c.Recording && s.Unaccounted != 0 {
		say("the account is off by %d", s.Unaccounted)
	}
	if len(c.LeftOut) > 0 {
		say("%s left out", count(uint64(len(c.LeftOut)), "segment"))
	}
	kept := c.To.Sub(c.From)
	switch {
	case s.any() && kept < leastHistory:
		say("the history is only %s long", shortSpan(max(0, kept)))
	case !s.any() && room >= 0 && room < leastRoom:
		say("the disk has only %s for the tape", shortBytes(room))
	}
	if len(wrong) > 0 {
		return "NOT WELL: " + escape.Safe(strings.Join(wrong, "; ")), false
	}
	return fmt.Sprintf("OK: recording, last batch %s ago, nothing lost and nobody at the recorder in the last hour", shortSpan(max(0, now.Sub(c.LastBatch)))), true
}

// checkGaps returns the gaps of the last hour, by cause.
func checkGaps(gaps []store.GapInfo, now time.Time) (wrong []string) {
	var causes []string
	times, lost := map[string]int{}, map[string]store.Loss{}
	for _, g := range gaps {
		recent := g.To.IsZero() || now.Sub(g.To) < checkedTime
		if !recent || !isTrouble(g) {
			continue
		}
		if times[g.Cause] == 0 {
			causes = append(causes, g.Cause)
		}
		sum := lost[g.Cause]
		sum.Add(g.Lost)
		times[g.Cause]++
		lost[g.Cause] = sum
	}
	for _, cause := range causes {
		text := fmt.Sprintf("%s in the last hour", cause)
		if n := times[cause]; n > 1 {
			text = fmt.Sprintf("%s %d times in the last hour", cause, n)
		}
		if l := lost[cause]; l != (store.Loss{}) {
			text += ", " + LostText(l) + " lost"
		}
		wrong = append(wrong, text)
	}
	return wrong
}

// isTrouble reports whether a monitor must hear of a gap. The begin and end of a tape are reported otherwise, and a
// short stop is a restart.
func isTrouble(g store.GapInfo) bool {
	if _, ok := segment.ExcludedBy(g.Cause); ok {
		return false
	}
	switch g.Cause {
	case segment.CauseStart:
		return false
	case segment.CauseStopped:
		return !g.To.IsZero() && g.To.Sub(g.From) > longestPause
	case segment.CauseFull, segment.CauseCrash, segment.CauseStorage:
		return true
	}
	return segment.IsAlarm(g.Cause) || g.Lost != (store.Loss{})
}
