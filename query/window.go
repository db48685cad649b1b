package query

import "time"

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
	}
	if until != "" {
		if w.Until, err = c.ParseTime(until, Until); err != nil {
			return Window{}, err
		}
	}
	if since != "" && until != "" && !w.Since.Before(w.Until) {
		return Window{}, usagef("--since is the start of the window and --until its end: 2h is longer ago than 1h",
			"the window is empty: its start %s is not before its end %s", stamp(w.Since, c.zone()), stamp(w.Until, c.zone()))
	}
	return w, nil
}

// IsOpen reports whether the window leaves both ends open.
func (w Window) IsOpen() bool { return w.Since.IsZero() && w.Until.IsZero() }

// overlaps reports whether from..to overlaps the window. A zero time means no limit.
func (w Window) overlaps(from, to time.Time) bool {
	return (w.Until.IsZero() || from.IsZero() || from.Before(w.Until)) &&
		(w.Since.IsZero() || to.IsZero() || !to.Before(w.Since))
}

// Within returns the duration of the part of from..to in the window.
func (w Window) Within(from, to time.Time) time.Duration {
	from, to = w.clip(from, to)
	return max(0, to.Sub(from))
}

// clip returns the part of from..to in the window.
func (w Window) clip(from, to time.Time) (time.Time, time.Time) {
	if !w.Since.IsZero() && from.Before(w.Since) {
		from = w.Since
	}
	if !w.Until.IsZero() && to.After(w.Until) {
		to = w.Until
	}
	return from, to
}

// stamp formats a time to the second, or more exactly if it has a fraction.
func stamp(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.In(zone).Format("2006-01-02T15:04:05.999999999Z07:00")
}

// bounds returns the window as ids: from (included) and to (excluded).
func (w Window) bounds() (from, to int64) {
	from, to = -1<<63, 1<<63-1
	if !w.Since.IsZero() {
		from = w.Since.UnixNano()
	}
	if !w.Until.IsZero() {
		to = w.Until.UnixNano()
	}
	return from, to
}
