package input

import (
	"fmt"
	"strings"
	"time"
)

// Window is a question's span of time, from Since (included) to Until (excluded). A zero time means no limit.
type Window struct {
	Since, Until time.Time
}

// ParseWindow reads the two ends of a window. An empty text leaves an end open.
func (c Clock) ParseWindow(since, until string) (Window, error) {
	var w Window
	var err error
	if since != "" {
		if w.Since, err = c.ParseTime(since, Since); err != nil {
			return Window{}, err
		}
		if w.Since.After(c.Now) && !c.hasDay(since) { // nobody asks at 2 am for what comes after 10 pm
			since = strings.Join(strings.Fields(since), " ")
			return Window{}, Usagef(fmt.Sprintf("for last night: --since %q", "yesterday "+since), "--since %s is later today: it is %s now", since, c.Now.In(w.Since.Location()).Format("15:04:05"))
		}
	}
	if until != "" {
		if w.Until, err = c.ParseTime(until, Until); err != nil {
			return Window{}, err
		}
	}
	if since != "" && until != "" && !w.Since.Before(w.Until) {
		return Window{}, Usagef("--since is the start of the window and --until its end: 2h is longer ago than 1h",
			"the window is empty: its start %s is not before its end %s", Stamp(w.Since, c.zone()), Stamp(w.Until, c.zone()))
	}
	return w, nil
}

// IsOpen reports whether the window leaves both ends open.
func (w Window) IsOpen() bool { return w.Since.IsZero() && w.Until.IsZero() }

// Overlaps reports whether from..to overlaps the window. A zero time means no limit.
func (w Window) Overlaps(from, to time.Time) bool {
	return (w.Until.IsZero() || from.IsZero() || from.Before(w.Until)) &&
		(w.Since.IsZero() || to.IsZero() || !to.Before(w.Since))
}

// Within returns the duration of the part of from..to in the window.
func (w Window) Within(from, to time.Time) time.Duration {
	from, to = w.Clip(from, to)
	return max(0, to.Sub(from))
}

// Clip returns the part of from..to in the window.
func (w Window) Clip(from, to time.Time) (time.Time, time.Time) {
	if !w.Since.IsZero() && from.Before(w.Since) {
		from = w.Since
	}
	if !w.Until.IsZero() && to.After(w.Until) {
		to = w.Until
	}
	return from, to
}

// Stamp formats a time to the second, or more exactly if it has a fraction.
func Stamp(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.In(zone).Format("2006-01-02T15:04:05.999999999Z07:00")
}

// Bounds returns the window as ids: from (included) and to (excluded).
func (w Window) Bounds() (from, to int64) {
	from, to = -1<<63, 1<<63-1
	if !w.Since.IsZero() {
		from = w.Since.UnixNano()
	}
	if !w.Until.IsZero() {
		to = w.Until.UnixNano()
	}
	return from, to
}
