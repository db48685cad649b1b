package table

import (
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conntape/conntape/query/sqltext"
)

// Questions of the kind "how many in each hour" group by the begin of a time: substr(time, 1, 13), time_ns / 3600000000000.
// Such an expression has the same value for all times of an hour, or of a minute. So contacts are cut into these, and the
// begin of the hour or minute stands where the time stood. The SQL functions date and strftime are not of the kind: they
// round to milliseconds, which may be in the next hour.

// slots are the lengths of equal parts of time, in ns: of column time and of time_ns. 0: time is not cut.
type slots struct{ wall, clock int64 }

// slot is a part: its number on the wall clock and on that of column time_ns.
type slot struct{ wall, clock int64 }

// cut yields the parts of a flow.
func (s slots) cut(segment *SegmentSource, c *Contact) iter.Seq2[*Contact, slot] {
	return func(yield func(*Contact, slot) bool) {
		if s == (slots{}) {
			yield(c, slot{})
			return
		}
		for at := 0; at < len(c.IDs); {
			from, in := at, s.of(segment, c.IDs[at])
			for at++; at < len(c.IDs) && s.of(segment, c.IDs[at]) == in; {
				at++
			}
			part := c.Part(from, at)
			if !yield(&part, in) {
				return
			}
		}
	}
}

// of returns the slot of a connection. Times are not before 1970: see isOddTime.
func (s slots) of(segment *SegmentSource, id int64) (in slot) {
	if s.wall > 0 {
		in.wall = segment.Wall(id) / s.wall
	}
	if s.clock > 0 {
		in.clock = id / s.clock
	}
	return in
}

// finer is the shorter length, 0 being none.
func finer(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// The columns that stand where a time stood.
const (
	slotHour     = countedPrefix + "hour"
	slotMinute   = countedPrefix + "minute"
	slotHourNS   = countedPrefix + "hour_ns"
	slotMinuteNS = countedPrefix + "minute_ns"
)

// slotColumns are their lengths.
var slotColumns = map[string]time.Duration{slotHour: time.Hour, slotMinute: time.Minute, slotHourNS: time.Hour, slotMinuteNS: time.Minute}

// inSlots returns the statement with the begin of an hour or a minute in the place of the times that tell no more.
func inSlots(sql string, s *sqltext.Select) (cut string, by slots) {
	c := &counter{sql: sql}
	look := func(e *sqltext.Expr) {
		e.Walk(func(e *sqltext.Expr) bool {
			of, column := c.slotOf(e)
			if of == nil {
				return true
			}
			c.edits = append(c.edits, edit{of.From, of.To, column})
			length := int64(slotColumns[column])
			if strings.HasSuffix(column, "_ns") {
				by.clock = finer(by.clock, length)
			} else {
				by.wall = finer(by.wall, length)
			}
			return false
		})
	}
	for _, r := range s.Results {
		look(r.Expr)
	}
	for _, e := range slices.Concat([]*sqltext.Expr{s.Where, s.Having}, s.GroupBy, s.OrderBy) {
		look(e)
	}
	return c.edited(), by
}

// slotOf returns the time in an expression that is the same for all times of a slot, and the column of the slot; nil: it is
// another expression.
func (c *counter) slotOf(e *sqltext.Expr) (of *sqltext.Expr, column string) {
	switch {
	case e.Op == sqltext.Call && (e.Name == "substr" || e.Name == "substring") && len(e.Args) == 3 && e.Filter == nil && !e.Distinct && c.number(e.Args[1]) == 1:
		of = e.Args[0]
		switch n := c.number(e.Args[2]); {
		case n >= 1 && n <= int64(len("2006-01-02T15")):
			column = slotHour
		case n >= 1 && n <= int64(len("2006-01-02T15:04")):
			column = slotMinute
		}
		return c.timeOf(of, "time", column)
	case e.Op == sqltext.Math && e.Name == "/" && len(e.Args) == 2:
		of = e.Args[0]
		switch n := c.number(e.Args[1]); {
		case n > 0 && n%int64(time.Hour) == 0:
			column = slotHourNS
		case n > 0 && n%int64(time.Minute) == 0:
			column = slotMinuteNS
		}
		return c.timeOf(of, "time_ns", column)
	}
	return nil, ""
}

// timeOf returns an expression and the column for it if it is the column of a time, and there is one.
func (c *counter) timeOf(e *sqltext.Expr, name, column string) (*sqltext.Expr, string) {
	if e.Op != sqltext.Column || e.Name != name || e.Quoted || column == "" {
		return nil, ""
	}
	return e, column
}

// number returns the value of a literal, -1: it is no whole number.
func (c *counter) number(e *sqltext.Expr) int64 {
	if n, err := strconv.ParseInt(c.text(e), 10, 64); err == nil && e.Op == sqltext.Literal {
		return n
	}
	return -1
}
