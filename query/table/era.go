package table

import (
	"strconv"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
)

// era is a part of a segment's time. Within it, connections without a recorded end are judged alike: whether their run is the
// last of the tape, and whether their outcomes may be among events lost since.
type era int

// eras are the begins of the segment's second and third era.
type eras [2]int64

// erasOf returns those of a segment.
func erasOf(r store.Recording) eras {
	lost := r.Run
	if r.Lost != store.Never {
		lost = r.Lost + 1
	}
	return eras{min(r.Run, lost), max(r.Run, lost)}
}

// of returns the era of a connection, or of the look that found it open.
func (e eras) of(id int64) era {
	switch {
	case id >= e[1]:
		return 2
	case id >= e[0]:
		return 1
	}
	return 0
}

// oneConnection is table c of the view with one connection of the same era.
func oneConnection(id int64) string { return "(SELECT " + strconv.FormatInt(id, 10) + " AS id) c" }

// openSource returns the outcome_source of a connection that was still established when a later segment reported it: the
// value that this segment's view would have.
func openSource(tape *Tape, l *store.Later) format.Value {
	r, told := tape.Recording(l.Place), l.At+l.SeenOpen
	switch {
	case told >= r.Followed && r.Followed != store.Never:
		return format.TextValue("open")
	case told < r.Run:
		return format.TextValue("recording ended")
	case r.Closed:
		return format.TextValue("not in this file")
	case told <= r.Lost && r.Lost != store.Never:
		return format.TextValue("outcomes lost")
	}
	return format.TextValue("recording ended")
}
