package report

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
	"zombiezen.com/go/sqlite"
)

// Where connects in flight at a rotation are in the next segment, and some of them were issued at the same nanosecond as
// one of this segment, each window that begins or ends there has the answer of the SQL over plain tables.
func TestWindowsInsideOverlaps(t *testing.T) {
	tape, ties := (*store.Tape)(nil), 0
	for range 20 { // a rotation reads this host's clock: by a few nanoseconds there may be no ties
		tape = testtape.Generated(t, 6_000, 3)
		err := ask.Each(t.Context(), testtape.StockOf(t, tape, input.Window{}), "SELECT count(*) - count(DISTINCT time_ns) FROM connections", func(row []format.Value) { ties = int(row[0].Int) })
		if err != nil {
			t.Fatal(err)
		}
		if ties >= 10 {
			break
		}
	}
	if ties < 10 {
		t.Fatalf("%d ties", ties)
	}
	recent, timeline := cannedNamed(t, "recent"), cannedNamed(t, "timeline")
	for segment := range 2 {
		from, to := testtape.OverlapOf(t, tape, segment)
		for part := time.Duration(1); part < 10; part += 2 {
			at := from.Add(to.Sub(from) * part / 10)
			for _, w := range []input.Window{{Since: at}, {Until: at}, {Since: from, Until: at}, {Since: at, Until: to}, {Since: at, Until: at.Add(to.Sub(from) / 7)}} {
				stock := testtape.StockOf(t, tape, w)
				for _, limit := range []string{"1", "2", "10", "100", "0"} {
					compareWithSQL(t, tape, stock, recent, map[string]string{"limit": limit}, w)
				}
				compareWithSQL(t, tape, stock, timeline, map[string]string{"seconds": "7"}, w)
				compareWithSQL(t, tape, stock, timeline, map[string]string{"seconds": "600", "all": "true"}, w)
				tape.Bound(w.Since, w.Until)
				for _, sql := range []string{
					"select time, id from connections order by time", "select time, id from connections order by time desc limit 20",
					"select time_ns from connections order by time_ns limit 33", "select time_ns from connections order by time_ns desc limit 33",
					"select time_ns, lag(time_ns) over (order by time_ns) from connections", "select min(time), max(time), count(*) from connections",
					"select segment, id, exe from connections where time >= '" + at.Format(format.TapeTime) + "'", fmt.Sprint("select segment, id from connections where time_ns = ", at.UnixNano(), " or id < ", at.UnixNano()),
				} {
					want := testtape.CSVOf(t, sql, func(out format.RowWriter) (ask.Result, error) {
						return ask.Run(t.Context(), stock, ask.Request{SQL: sql}, out)
					})
					got := testtape.CSVOf(t, sql, func(out format.RowWriter) (ask.Result, error) {
						return table.RunSQL(t.Context(), tape, ask.Request{SQL: sql}, out)
					})
					if got != want {
						t.Errorf("%s, %v:\nSQL  %.600s\ntape %.600s", sql, w, want, got)
					}
				}
				sameTail(t, tape, stock, at.UnixNano())
			}
		}
	}
}

// sameTail compares what a tail shows, from a time on and of the newest rows, with the same of plain tables.
func sameTail(t *testing.T, tape *store.Tape, stock *sqlite.Conn, since int64) {
	t.Helper()
	for _, back := range []int64{0, 1, 40} {
		shown := func(conn *sqlite.Conn) string {
			var out bytes.Buffer
			tail := NewTail(Filter{}, true, since)
			if back > 0 {
				if err := tail.Back(t.Context(), conn, back, input.Clock{}); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 { // in parts: what was shown is not shown again, and nothing is left out
				if _, err := tail.Look(t.Context(), conn, input.Clock{}, 50, testtape.CSVTo(&out)); err != nil {
					t.Fatal(err)
				}
			}
			return out.String()
		}
		if want, got := shown(stock), shown(tape.Conn()); got != want {
			t.Errorf("tail since %d, back %d:\nSQL  %.600s\ntape %.600s", since, back, want, got)
		}
	}
}
