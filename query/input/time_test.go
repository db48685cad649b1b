package input

import (
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

func clockAt(t *testing.T, now, zone string) Clock {
	t.Helper()
	at, err := time.Parse(time.RFC3339, now)
	if err != nil {
		t.Fatal(err)
	}
	loc, err := ParseZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	return Clock{Now: at, Zone: loc}
}

func TestParseTime(t *testing.T) {
	const now = "2026-07-01T12:00:00Z"
	for _, c := range []struct{ text, zone, want string }{
		{"now", "UTC", "2026-07-01T12:00:00Z"},
		{"2026-06-30T10:11:12Z", "UTC", "2026-06-30T10:11:12Z"},
		{"2026-06-30T10:11:12.000000005+02:00", "UTC", "2026-06-30T08:11:12.000000005Z"},
		{"2026-06-30t10:11z", "UTC", "2026-06-30T10:11:00Z"},
		{"2026-06-30 10:11:12Z", "UTC", "2026-06-30T10:11:12Z"},
		{"2026-06-30", "UTC", "2026-06-30T00:00:00Z"},
		{"2026-06-30", "Europe/Paris", "2026-06-29T22:00:00Z"},
		{"2026-06-30 14:30", "UTC", "2026-06-30T14:30:00Z"},
		{"2026-06-30T14:30:05.25", "UTC", "2026-06-30T14:30:05.25Z"},
		{"2026-06-30 14:30", "America/New_York", "2026-06-30T18:30:00Z"},
		{"today", "UTC", "2026-07-01T00:00:00Z"},
		{"Today 9:05", "UTC", "2026-07-01T09:05:00Z"},
		{"yesterday 14:00", "UTC", "2026-06-30T14:00:00Z"},
		{"yesterday", "Asia/Tokyo", "2026-06-29T15:00:00Z"},
		{"14:30", "UTC", "2026-07-01T14:30:00Z"},
		{"2h", "UTC", "2026-07-01T10:00:00Z"},
		{"-2h", "UTC", "2026-07-01T10:00:00Z"},
		{"2 hours ago", "UTC", "2026-07-01T10:00:00Z"},
		{"2 Hours and 5 mins Ago", "UTC", "2026-07-01T09:55:00Z"},
		{"1hr", "UTC", "2026-07-01T11:00:00Z"},
		{"2HRS", "UTC", "2026-07-01T10:00:00Z"},
		{"now-1h", "UTC", "2026-07-01T11:00:00Z"},
		{"NOW - 1h30m", "UTC", "2026-07-01T10:30:00Z"},
		{"10:00am", "UTC", "2026-07-01T10:00:00Z"},
		{"yesterday 2:30 PM", "UTC", "2026-06-30T14:30:00Z"},
		{"12am", "UTC", "2026-07-01T00:00:00Z"},
		{"2026-06-30 12pm", "Europe/Paris", "2026-06-30T10:00:00Z"},
		{"2026-6-3", "UTC", "2026-06-03T00:00:00Z"},
		{"noon", "UTC", "2026-07-01T12:00:00Z"},
		{"yesterday at midnight", "Europe/Paris", "2026-06-29T22:00:00Z"},
		{"yesterday at 2pm", "UTC", "2026-06-30T14:00:00Z"},
		{"half an hour ago", "UTC", "2026-07-01T11:30:00Z"},
		{"2026-06-30 14:30:05 UTC", "Europe/Paris", "2026-06-30T14:30:05Z"},
		{"2026/06/30 14:30", "UTC", "2026-06-30T14:30:00Z"},
		{"20260630", "Europe/Paris", "2026-06-29T22:00:00Z"},
		{"20260630T143005Z", "Europe/Paris", "2026-06-30T14:30:05Z"},
		{"@1782916200", "UTC", "2026-07-01T14:30:00Z"},
		{"Jun 30 14:30:05", "Europe/Paris", "2026-06-30T12:30:05Z"},
		{"Dec 24", "UTC", "2025-12-24T00:00:00Z"},
		{"30th June, 2026 2pm", "UTC", "2026-06-30T14:00:00Z"},
		{"Tue Jun 30 14:30:05 UTC 2026", "Europe/Paris", "2026-06-30T14:30:05Z"},
		{"Tue, 30 Jun 2026 14:30:05 GMT", "Europe/Paris", "2026-06-30T14:30:05Z"},
		{"30m", "UTC", "2026-07-01T11:30:00Z"},
		{"7d", "UTC", "2026-06-24T12:00:00Z"},
		{"1d12h", "UTC", "2026-06-30T00:00:00Z"},
		{"1w 1.5h", "UTC", "2026-06-24T10:30:00Z"},
		{"1782916200", "UTC", "2026-07-01T14:30:00Z"},
		{"1782916200.5", "Asia/Tokyo", "2026-07-01T14:30:00.5Z"},
		{"1782916200123", "UTC", "2026-07-01T14:30:00.123Z"},
		{"1782916200123456789", "UTC", "2026-07-01T14:30:00.123456789Z"},
	} {
		got, err := clockAt(t, now, c.zone).ParseTime(c.text, Since)
		if err != nil {
			t.Errorf("%q in %s: %v", c.text, c.zone, err)
			continue
		}
		if got := got.UTC().Format(time.RFC3339Nano); got != c.want {
			t.Errorf("%q in %s: got %s, want %s", c.text, c.zone, got, c.want)
		}
	}
}

func TestParseTimeRefuses(t *testing.T) {
	c := clockAt(t, "2026-07-01T12:00:00Z", "Europe/Paris")
	for _, text := range []string{
		"", " ", "5", "20261301", "7 8 jul", "Feb 30", "may", "Jul 1 14:30 CEST", "12 31 2026", "monday 10:00", "01.07.2026", "tomorrow", "2026-13-01", "2026-02-30", "25:00", "12:60", "14:30 yesterday",
		"yesterday14:00", "2x", "h", "2026-07-01T14:30:00+99:00", "9999-01-01", "1600-01-01", "9223372036854775808",
		"99999999999999w", "2026-03-29 02:30", "1782916200123.5", "today today", "\x1b[31m", "2h; drop",
	} {
		got, err := c.ParseTime(text, Since)
		var usage *UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%q: got %v, %v; want a usage error", text, got, err)
			continue
		}
		if usage.Hint == "" || !strings.Contains(usage.Hint, "2026") {
			t.Errorf("%q: hint without an example: %q", text, usage.Hint)
		}
		if strings.ContainsAny(usage.Message, "\x1b\n") {
			t.Errorf("%q: message is not safe to show: %q", text, usage.Message)
		}
	}
}

// A window that begins later today is refused, and nobody is told that it has no rows; one that names its day, as for a tape of
// a host whose clock was set forward, is not.
func TestParseWindowLaterToday(t *testing.T) {
	c := clockAt(t, "2026-07-01T12:00:00Z", "Europe/Paris") // 14:00 there
	for since, refused := range map[string]bool{"14:01": true, "10 PM": true, "14:00": false, "noon": false, "today 22:00": false, "2026-07-01 22:00": false, "2031-07-01": false, "1h": false} {
		_, err := c.ParseWindow(since, "")
		var usage *UsageError
		if errors.As(err, &usage) != refused || refused && !strings.Contains(usage.Hint, "yesterday "+since) {
			t.Errorf("%s: %v", since, err)
		}
	}
	if w, err := c.ParseWindow("1h", "22:00"); err != nil || w.Until.Before(c.Now) {
		t.Errorf("the end may come later: %v, %v", w, err)
	}
}

// A local time that occurs twice is read so that the window is the wider.
func TestParseTimeSetBack(t *testing.T) {
	c := clockAt(t, "2026-12-01T12:00:00Z", "Europe/Paris")
	since, err := c.ParseTime("2026-10-25 02:30", Since)
	if err != nil {
		t.Fatal(err)
	}
	until, err := c.ParseTime("2026-10-25 02:30", Until)
	if err != nil {
		t.Fatal(err)
	}
	if got := since.UTC().Format(time.TimeOnly); got != "00:30:00" {
		t.Errorf("since: %s", got)
	}
	if got := until.UTC().Format(time.TimeOnly); got != "01:30:00" {
		t.Errorf("until: %s", got)
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2h", "yesterday 14:00", "2026-07-01T14:30:00Z", "1782916200.5", "1d12h ago", "14:30"} {
		f.Add(s)
	}
	c := Clock{Now: time.Unix(1782916200, 0)}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := c.ParseTime(s, Until)
		if err != nil {
			if !errors.Is(err, ErrUsage) {
				t.Fatalf("%q: %v is not a usage error", s, err)
			}
			return
		}
		if back := time.Unix(0, got.UnixNano()); !back.Equal(got) {
			t.Fatalf("%q: %v does not fit nanoseconds", s, got)
		}
	})
}

func TestParseDuration(t *testing.T) {
	if d, err := ParseDuration("1h30m"); err != nil || d != 90*time.Minute {
		t.Errorf("got %v, %v", d, err)
	}
	for _, s := range []string{"", "5", "-5s", "5 parsecs"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q: got %v", s, d)
		}
	}
}
