package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// OutcomeInWords describes n connections: the outcome, the longest duration in ns, and the sums of bytes.
func OutcomeInWords(outcome string, n int64, duration, sent, received Nullable) string {
	most := ""
	if n > 1 {
		most = "up to "
	}
	switch {
	case sent.Known && received.Known:
		words := sizeText(sent.Number) + " out, " + sizeText(received.Number) + " in"
		if duration.Known {
			words += ", " + most + DurationText(duration.Number)
		} else {
			words += " so far"
		}
		if outcome != "established" {
			words = outcome + ", " + words
		}
		return words
	case duration.Known && outcome != "established":
		return outcome + " after " + most + DurationText(duration.Number)
	}
	return outcome
}

// outcomeWord returns the outcome in such words.
func outcomeWord(words string) string {
	for _, outcome := range append(Outcomes(), "name probe") {
		if rest, ok := strings.CutPrefix(words, outcome); ok && (rest == "" || strings.HasPrefix(rest, ", ") || strings.HasPrefix(rest, " after ")) {
			return outcome
		}
	}
	if strings.Contains(words, " out, ") {
		return "established"
	}
	return words
}

// sizeText formats bytes with at most three digits.
func sizeText(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n), 0
	for value >= 1023.5 && unit < 5 {
		value, unit = value/1024, unit+1
	}
	digits := 0
	if value < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + " " + [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}

// DurationText formats a duration with its two largest units.
func DurationText(ns int64) string {
	d := time.Duration(max(ns, 0))
	switch {
	case d < 9950*time.Microsecond:
		return strconv.FormatFloat(float64(d)/1e6, 'f', 1, 64) + " ms"
	case d < time.Second-500*time.Microsecond:
		return strconv.FormatInt(int64(d.Round(time.Millisecond)/time.Millisecond), 10) + " ms"
	case d < 9950*time.Millisecond:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	seconds := int64(d.Round(time.Second) / time.Second)
	days, hours, minutes, rest := seconds/86400, seconds/3600%24, seconds/60%60, seconds%60
	pair := func(a int64, ua string, b int64, ub string) string {
		if b == 0 {
			return fmt.Sprintf("%d%s", a, ua)
		}
		return fmt.Sprintf("%d%s %d%s", a, ua, b, ub)
	}
	switch {
	case days > 0:
		return pair(days, "d", hours, "h")
	case hours > 0:
		return pair(hours, "h", minutes, "m")
	case minutes > 0:
		return pair(minutes, "m", rest, "s")
	}
	return fmt.Sprintf("%d s", seconds)
}
