package table

import (
	"maps"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// contactColumn is a column of contacts.
type contactColumn struct {
	segment.ViewColumn
	role contactRole
	sum  func(*contactViewCursor, *mergedRow) sqlite.Value // of sums
}

// contactRole is what a column of contacts is.
type contactRole int

const (
	groups contactRole = iota // a column of connections
	sums                      // over the connections of a row
	times                     // of a connection: hidden, for conditions alone
)

// trafficSums are the columns of contacts that need the outcome of each connection.
var trafficSums = []string{"bytes_sent", "bytes_received"}

// contactColumns returns the columns of the public table, or of the one that takes the place of connections.
func contactColumns(counted bool) []contactColumn {
	var columns []contactColumn
	for _, c := range segment.ViewColumns("connections") {
		if o, known := originOf(c.Name); known && o != ofRow && o != ofLocal {
			columns = append(columns, contactColumn{ViewColumn: c})
		}
	}
	sum := func(name string, of func(*contactViewCursor, *mergedRow) sqlite.Value) {
		columns = append(columns, contactColumn{segment.ViewColumn{Name: name}, sums, of})
	}
	connects := func(_ *contactViewCursor, r *mergedRow) sqlite.Value { return sqlite.IntegerValue(r.N) }
	rows := func(_ *contactViewCursor, r *mergedRow) sqlite.Value { return sqlite.IntegerValue(r.rows) }
	first := func(c *contactViewCursor, r *mergedRow) sqlite.Value {
		return sqlite.TextValue(string(c.first.of(r.FirstWall)))
	}
	last := func(c *contactViewCursor, r *mergedRow) sqlite.Value {
		return sqlite.TextValue(string(c.last.of(r.lastWall)))
	}
	if counted {
		sum(countedPrefix+"connects", connects)
		sum(countedPrefix+"rows", rows)
		sum(countedPrefix+"first", first)
		sum(countedPrefix+"last", last)
		sum(countedPrefix+"newest", func(c *contactViewCursor, r *mergedRow) sqlite.Value {
			return sqlite.TextValue(string(c.last.of(r.newestWall)))
		})
		sum(countedPrefix+"ended", func(c *contactViewCursor, r *mergedRow) sqlite.Value {
			return sqlite.TextValue(string(c.first.of(r.ended)))
		})
		wall := func(c *contactViewCursor, r *mergedRow, length int64) sqlite.Value {
			ns := r.slot.wall * c.table.by.wall
			return sqlite.TextValue(string(c.first.of(ns - ns%length)))
		}
		clock := func(c *contactViewCursor, r *mergedRow, length int64) sqlite.Value {
			ns := r.slot.clock * c.table.by.clock
			return sqlite.IntegerValue(ns - ns%length)
		}
		for _, name := range slices.Sorted(maps.Keys(slotColumns)) {
			of, length := wall, int64(slotColumns[name])
			if strings.HasSuffix(name, "_ns") {
				of = clock
			}
			sum(name, func(c *contactViewCursor, r *mergedRow) sqlite.Value { return of(c, r, length) })
		}
		sum(countedPrefix+"first_ns", func(_ *contactViewCursor, r *mergedRow) sqlite.Value { return sqlite.IntegerValue(r.First) })
		sum(countedPrefix+"newest_ns", func(_ *contactViewCursor, r *mergedRow) sqlite.Value { return sqlite.IntegerValue(r.newest) })
	} else {
		sum("connects", connects)
		sum("rows", rows)
		sum("first_time", first)
		sum("last_time", last)
		for _, name := range trafficSums {
			sum(name, func(_ *contactViewCursor, r *mergedRow) sqlite.Value { return r.Traffic.value(name) })
		}
	}
	return append(columns,
		contactColumn{ViewColumn: segment.ViewColumn{Name: "time"}, role: times},
		contactColumn{ViewColumn: segment.ViewColumn{Name: "time_ns", Type: "INTEGER"}, role: times})
}
