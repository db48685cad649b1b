package table

import (
	"fmt"
	"strings"
	"testing"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/test/testtape"
)

// Limits 400 times lower split every answer in parts: batches of an open segment, more matches than are looked up by id, lists
// longer than are pushed down, cells that a stream has to read again. Each answer is that of plain tables all the same.
func TestAnswersInParts(t *testing.T) {
	stored := testtape.Altered(t, 6_000, testtape.Oddities)
	tape := Of(stored)
	tape.Limits = tape.Limits.Divided(400)
	stock := testtape.StockOf(t, stored, input.Window{})
	n := 0
	err := ask.Each(t.Context(), stock, "SELECT count(*) FROM connections WHERE segment = (SELECT max(segment) FROM connections)", func(row []format.Value) { n = int(row[0].Int) })
	if err != nil || n < 4*tape.Limits.Sorted {
		t.Fatalf("the open segment has %d connections, and %d are sorted at a time", n, tape.Limits.Sorted)
	}
	var long []string // a list longer than is pushed down
	for port := range 4 * tape.Limits.Values {
		long = append(long, fmt.Sprint(port*13))
	}
	for _, sql := range []string{
		"count(*), sum(count), min(time), max(last_time) FROM connections",
		"exe, user, count(*), sum(count), max(time) FROM connections GROUP BY 1, 2",
		"remote_address, remote_port, outcome, count(*) FROM connections GROUP BY 1, 2, 3",
		"id, time, exe, remote_address FROM connections WHERE remote_port = 443",
		"id, outcome, remote_address FROM connections WHERE exe LIKE '%curl%' OR exe LIKE '%a%'",
		"id, segment FROM connections WHERE protocol = 'tcp' AND via = 'connect'",
		"id, exe FROM connections WHERE remote_port IN (" + strings.Join(long, ", ") + ")",
		"id, pid, outcome, bytes_sent, duration_ns FROM connections WHERE outcome IN ('established', 'refused', 'denied')",
		"id FROM connections WHERE process_id IN (SELECT process_id FROM processes)",
		"id, time_ns FROM connections ORDER BY time_ns DESC LIMIT 1500",
		"id, lag(id) OVER (ORDER BY time_ns) FROM connections WHERE remote_port > 100",
		"outcome, sum(bytes_sent), sum(bytes_received), max(duration_ns) FROM connections GROUP BY 1",
		"c.exe, p.source, count(*) FROM connections c JOIN processes p USING (process_id) GROUP BY 1, 2",
	} {
		sql = "SELECT " + sql
		got, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
			return tape.RunSQL(t.Context(), ask.Request{SQL: sql}, out)
		})
		want, wrong := answer(t, func(out format.RowWriter) (ask.Result, error) {
			return ask.Run(t.Context(), stock, ask.Request{SQL: sql}, out)
		})
		if err != nil || wrong != nil || got != want || strings.Count(want, "\n") < 2 {
			t.Errorf("%.100s: %v, %v: %d lines and %d", sql, err, wrong, strings.Count(want, "\n"), strings.Count(got, "\n"))
		}
	}
}

// More connections than are looked up by id are found by reading all: none is left out at the limit, below it or above.
func TestMatchesAroundTheLimit(t *testing.T) {
	stored := testtape.Generated(t, 3_000, 2)
	stock := testtape.StockOf(t, stored, input.Window{})
	const sql = "SELECT id, exe, remote_address FROM connections WHERE remote_port = 443"
	ids := func(of *Tape) string {
		text, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
			return of.RunSQL(t.Context(), ask.Request{SQL: sql}, out)
		})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	want, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
		return ask.Run(t.Context(), stock, ask.Request{SQL: sql}, out)
	})
	n := strings.Count(want, "\n") - 1
	if err != nil || n < 100 {
		t.Fatal(n, err)
	}
	for _, most := range []int{1, n / 4, n / 2, n - 1, n, n + 1} {
		of := Of(stored)
		of.Limits.Found, of.Limits.Sorted = most, max(1, most/7)
		if got := ids(of); got != want {
			t.Errorf("at most %d of %d: %d found", most, n, strings.Count(got, "\n")-1)
		}
	}
}
