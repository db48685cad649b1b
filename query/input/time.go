package input

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Edge is the end of a window that a time is for. If a local time occurs twice because clocks are set back, it chooses
// the wider window.
type Edge int

// The two ends of a window.
const (
	Since Edge = iota // the first instant inside the window
	Until             // the first instant after it
)

// TimeExamples is the hint for every unreadable time.
const TimeExamples = `try 2h, 7d, today, "yesterday 14:00", 2026-07-01, "2026-07-01 14:30", 2026-07-01T14:30:00Z or unix seconds such as 1782916200`

// Clock is the reference for relative and local times.
type Clock struct {
	Now  time.Time
	Zone *time.Location // nil is UTC
}

// ParseTime reads one end of a window, in any of these forms:
//
//	2026-07-01T14:30:00Z            RFC 3339, with fractions and any offset
//	2026-07-01 14:30[:05[.123]]     in the clock's zone; a T for the space will do
//	2026-07-01                      midnight at its start
//	14:30, today, yesterday 14:30   today or yesterday, in the clock's zone
//	10:00am, 10 pm, noon            the same on a clock of twelve hours
//	Jul 1 14:30:05, 1 Jul 2026      with the name of the month, as logs have it
//	20260701, 2026/07/01            the year first; … UTC or GMT after a time
//	30m, 1d12h, 7d, 2h ago, now-2h  that long before now
//	now
//	1782916200, 1782916200.5        unix seconds; also 13, 16 and 19 digits:
//	                                milliseconds, microseconds, nanoseconds
//
// The error is a UsageError that shows examples.
func (c Clock) ParseTime(text string, edge Edge) (time.Time, error) {
	s := strings.Join(strings.Fields(text), " ")
	t, err := c.parse(s, edge)
	if err != nil {
		return time.Time{}, err
	}
	if t.Before(time.Unix(0, math.MinInt64)) || t.After(time.Unix(0, math.MaxInt64)) {
		return time.Time{}, Usagef(TimeExamples, "time %q is outside the years 1678 to 2262", text)
	}
	return t, nil
}

func (c Clock) parse(s string, edge Edge) (time.Time, error) {
	bad := func(why string) (time.Time, error) {
		return time.Time{}, Usagef(TimeExamples, "cannot read time %q%s", s, why)
	}
	lower, utc := c.inPlainForm(strings.ToLower(s))
	if utc {
		c.Zone = time.UTC
	}
	if before, ok := strings.CutPrefix(lower, "now"); ok && before != "" {
		lower = strings.TrimSpace(before)
		if lower[0] != '-' {
			return bad(": a time before now is written now-2h")
		}
	}
	switch {
	case s == "":
		return bad(": it is empty")
	case lower == "now":
		return c.Now, nil
	case isUnix(lower):
		t, ok := parseUnix(lower)
		if !ok {
			return bad(": unix times have 9 to 11 digits (seconds), 13, 16 or 19; for a time ago give a unit: 2h, 30m, 7d")
		}
		return t, nil
	}
	if d, ok := ParseSpan(strings.TrimSpace(strings.TrimPrefix(strings.TrimSuffix(lower, " ago"), "-"))); ok {
		return c.Now.Add(-d), nil
	}
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(form, strings.ToUpper(strings.Replace(lower, " ", "T", 1))); err == nil {
			return t, nil
		}
	}
	local := localForm.FindStringSubmatch(lower)
	if local == nil {
		return bad(whyNoTime(lower))
	}
	day, ok := c.parseDay(local[1])
	if !ok {
		return bad(": there is no such day")
	}
	wall, ok := parseClock(local[2])
	if !ok {
		return bad(": there is no such time of day")
	}
	return c.local(s, day, wall, edge)
}

// hasDay reports whether a local time that ParseTime reads names its day, if only as today.
func (c Clock) hasDay(text string) bool {
	lower, _ := c.inPlainForm(strings.ToLower(strings.Join(strings.Fields(text), " ")))
	local := localForm.FindStringSubmatch(lower)
	return local == nil || local[1] != ""
}

// parseDay parses a date, "today", "yesterday" or, for a time alone, "". The result is in UTC whatever the zone: it is
// only a date.
func (c Clock) parseDay(s string) (time.Time, bool) {
	now := c.Now.In(c.zone())
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	switch s {
	case "", "today":
		return today, true
	case "yesterday":
		return today.AddDate(0, 0, -1), true
	}
	day, err := time.Parse("2006-1-2", s)
	return day, err == nil
}

// local combines a day and a time of day in the clock's zone.
func (c Clock) local(s string, day time.Time, wall time.Duration, edge Edge) (time.Time, error) {
	h, m, sec, ns := int(wall.Hours()), int(wall.Minutes())%60, int(wall.Seconds())%60, int(wall%time.Second)
	t := time.Date(day.Year(), day.Month(), day.Day(), h, m, sec, ns, c.zone())
	if t.Hour() != h%24 || t.Minute() != m {
		return time.Time{}, Usagef("give the time with its offset, as in 2026-07-01T14:30:00+02:00",
			"time %q does not exist in %s: clocks were set forward over it", s, c.zone())
	}
	// Zones are set back by half an hour or an hour.
	for _, d := range []time.Duration{-time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour} {
		other := t.Add(d)
		same := other.Hour() == t.Hour() && other.Minute() == t.Minute() && other.Day() == t.Day()
		if same && (d < 0) == (edge == Since) {
			return other, nil
		}
	}
	return t, nil
}

func (c Clock) zone() *time.Location {
	if c.Zone == nil {
		return time.UTC
	}
	return c.Zone
}

// ParseZone reads a time zone: "UTC", "local", or a name of the IANA database.
func ParseZone(name string) (*time.Location, error) {
	switch strings.ToLower(name) {
	case "", "utc", "z":
		return time.UTC, nil
	case "local":
		return time.Local, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, Usagef("try UTC, local or a name such as Europe/Paris", "unknown time zone %q", name)
	}
	return zone, nil
}

// whyNoTime explains a common mistake in a lower-case text that is no time, "" if it knows none.
func whyNoTime(s string) string {
	switch {
	case strings.Contains(s, "/"):
		return ": write a date as year-month-day, 2026-07-01; 1/7 is two different days"
	case monthsForm.MatchString(s):
		return ": a month or a year has no fixed length; give days or a date"
	case strings.Contains(s, "tomorrow"):
		return ": nothing is recorded in the future"
	case strings.HasPrefix(s, "last "), strings.HasPrefix(s, "past "):
		return ": give the length of the time alone, such as 7d"
	case monthNames.MatchString(s):
		return ": write the date as 2026-07-01 or 1 Jul 2026, and the zone as UTC or an offset"
	case dayNames.MatchString(s):
		return ": write a date, or how many days ago, such as 3d"
	}
	return ""
}

// ParseDuration reads a span of time with units w, d, h, m, s, ms: 1d12h, 90s, 1.5h.
func ParseDuration(text string) (time.Duration, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	d, ok := ParseSpan(s)
	switch {
	case ok:
		return d, nil
	case unixForm.MatchString(s):
		return 0, Usagef("try "+s+"s, "+s+"m or "+s+"h", "cannot read duration %q: it has no unit", text)
	}
	return 0, Usagef("try 30s, 5m or 1h30m", "cannot read duration %q", text)
}

var (
	unixForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	spanForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?(weeks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|ms|m|seconds?|secs?|s) ?(?:and )?`)
	// localForm is a day, a time of day, or both with a space or a T between.
	localForm = regexp.MustCompile(`^(today|yesterday|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|)(?:(?:^|[ t])([0-9]{1,2}(?::[0-9:.]+)?(?: ?[ap]m)|[0-9]{1,2}:[0-9:.]+))?$`)

	monthsForm = regexp.MustCompile(`^-?[0-9.]+ ?(mo|mon|months?|y|yrs?|years?)( ago)?$`)
	monthNames = regexp.MustCompile(`\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)`)
	dayNames   = regexp.MustCompile(`\b(mon|tue|wed|thu|fri|sat|sun)`)
)

func isUnix(s string) bool { return unixForm.MatchString(s) }

// parseUnix parses a unix time; the number of digits gives the unit.
func parseUnix(s string) (time.Time, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	if fraction != "" && len(whole) > 11 {
		return time.Time{}, false
	}
	switch len(whole) {
	case 9, 10, 11:
		ns, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		return time.Unix(n, ns), err == nil
	case 13:
		return time.UnixMilli(n), true
	case 16:
		return time.UnixMicro(n), true
	case 19:
		return time.Unix(0, n), true
	}
	return time.Time{}, false
}

// ParseSpan reads one or more numbers with units.
func ParseSpan(s string) (time.Duration, bool) {
	var total float64
	for rest := s; rest != ""; {
		part := spanForm.FindStringSubmatch(rest)
		if part == nil {
			return 0, false
		}
		n, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return 0, false
		}
		total += n * float64(spanUnit(part[2]))
		rest = rest[len(part[0]):]
	}
	return time.Duration(total), s != "" && total < math.MaxInt64/2
}

func spanUnit(unit string) time.Duration {
	switch {
	case unit == "ms":
		return time.Millisecond
	case unit[0] == 'w':
		return 7 * 24 * time.Hour
	case unit[0] == 'd':
		return 24 * time.Hour
	case unit[0] == 'h':
		return time.Hour
	case unit[0] == 'm':
		return time.Minute
	}
	return time.Second
}

// parseClock reads a time of day: nothing, 14:30, 14:30:05, 14:30:05.123, 2:30pm or
// 2 pm.
func parseClock(s string) (time.Duration, bool) {
	if s == "" {
		return 0, true
	}
	for _, form := range []string{"15:04", "15:04:05.999999999", "3:04pm", "3:04:05pm", "3pm"} {
		if t, err := time.Parse(form, strings.ReplaceAll(s, " ", "")); err == nil {
			return t.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)), true
		}
	}
	return 0, false
}
