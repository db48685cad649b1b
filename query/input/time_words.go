package input

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Times come from logs or in words. They are rewritten to the forms of Clock.ParseTime. An ambiguous time stays
// unchanged and is refused there.

// timeWords are words for a time of day or a span.
var timeWords = strings.NewReplacer("half an hour", "30m", "an hour", "1h", "a minute", "1m", "a day", "1d", "a week", "1w")

var (
	dayWords  = regexp.MustCompile(`^(?:(today|yesterday)(?: at)? )?(noon|midnight)$`)
	slashes   = regexp.MustCompile(`^([0-9]{4})/([0-9]{1,2})/([0-9]{1,2})\b`)
	basicDate = regexp.MustCompile(`^((?:19|20)[0-9]{2})([0-9]{2})([0-9]{2})(?:t([0-9]{2})([0-9]{2})([0-9]{2})?(z)?)?$`)
)

// inPlainForm rewrites a lower-case time and reports whether it names UTC.
func (c Clock) inPlainForm(s string) (plain string, utc bool) {
	s = strings.TrimPrefix(timeWords.Replace(strings.ReplaceAll(s, " at ", " ")), "@")
	if found := dayWords.FindStringSubmatch(s); found != nil {
		day := found[1]
		if day == "" {
			day = "today"
		}
		return day + map[string]string{"noon": " 12:00", "midnight": " 00:00"}[found[2]], false
	}
	if found := basicDate.FindStringSubmatch(s); found != nil {
		s = found[1] + "-" + found[2] + "-" + found[3]
		if found[4] != "" {
			s += " " + found[4] + ":" + found[5]
		}
		if found[6] != "" {
			s += ":" + found[6]
		}
		return s, found[7] != ""
	}
	s = slashes.ReplaceAllString(s, "$1-$2-$3")
	if spelled, ok := c.spelledDate(s); ok {
		s = spelled
	}
	for _, zone := range []string{" utc", " gmt"} {
		if rest, ok := strings.CutSuffix(s, zone); ok {
			return rest, true
		}
	}
	return s, false
}

// spelledDate rewrites a date with a month's name: Jul 1 14:30:05, Wed, 01 Jul 2026 14:30:05 GMT. Without a year it is
// the most recent such date.
func (c Clock) spelledDate(s string) (string, bool) {
	months := []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
	month, day, year, rest := 0, 0, 0, ""
	for i, word := range strings.Fields(strings.ReplaceAll(s, ",", " ")) {
		named := slices.IndexFunc(months, func(m string) bool { return word == m || word == m[:3] || word == "sept" && m == "september" })
		n := 0
		fmt.Sscanf(word, "%d", &n)
		switch digits := strings.TrimRight(word, "stndrh"); {
		case named >= 0 && month == 0:
			month = named + 1
		case i == 0 && dayNames.MatchString(word):
		case len(word) == 4 && strings.Trim(word, "0123456789") == "" && year == 0:
			year = n
		case len(digits) <= 2 && digits != "" && strings.Trim(digits, "0123456789") == "" && day == 0:
			day = n
		case strings.Contains(word, ":") || strings.HasSuffix(word, "am") || strings.HasSuffix(word, "pm") || word == "utc" || word == "gmt":
			rest += " " + word
		default:
			return "", false
		}
	}
	if month == 0 || day == 0 {
		return "", false
	}
	if now := c.Now.In(c.zone()); year == 0 {
		year = now.Year()
		if time.Date(year, time.Month(month), day, 0, 0, 0, 0, c.zone()).After(now) {
			year--
		}
	}
	return fmt.Sprintf("%04d-%02d-%02d%s", year, month, day, rest), true
}
