package report

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// A scan whose answers came when later segments were active: each question that counts them has them, as its SQL does.
func TestPlansCountEndingsOfLaterSegments(t *testing.T) {
	tape := testtape.Opened(t, writeScan(t))
	want := map[string]string{
		"top":      "failed=28",
		"timeline": "failed=28",
		"fanout":   "failed=28",
		"lateral":  "failed=28",
		"failed":   "n=28",
	}
	for _, name := range []string{"top", "timeline", "fanout", "lateral", "failed"} {
		c := cannedNamed(t, name)
		for _, given := range variantsOf(c) {
			params, err := c.Bind(given, input.Clock{Now: time.Unix(0, 0)}, input.Window{})
			if err != nil {
				t.Fatal(err)
			}
			request := ask.Request{SQL: c.Source, Params: params}
			what := fmt.Sprintf("%s %v", name, given)
			bySQL := testtape.CSVOf(t, what, func(out format.RowWriter) (ask.Result, error) {
				return table.AskVirtual(t.Context(), table.Of(tape), func() (ask.Result, error) { return ask.Run(context.Background(), tape.Conn(), request, out) })
			})
			planned := testtape.CSVOf(t, what, func(out format.RowWriter) (ask.Result, error) {
				return NewPlanned(tape, c, request, input.Window{}).Run(context.Background(), out)
			})
			sameRows(t, what, name, bySQL, planned)
			column, sum, _ := strings.Cut(want[name], "=")
			if got := fmt.Sprint(sumOf(t, planned, column)); got != sum && given["limit"] != "7" {
				t.Errorf("%s: the sum of %s is %s, want %s:\n%s", what, column, got, sum, planned)
			}
		}
	}
	for _, outcome := range []string{"refused", "timed out", "unknown", "established", "reset", "aborted"} {
		rows := answerOf(t, tape, `SELECT count(*) FROM connections WHERE outcome = '`+outcome+`'`)
		if got := answerOf(t, tape, `SELECT coalesce(sum(rows), 0) FROM contacts WHERE outcome = '`+outcome+`'`); got != rows {
			t.Errorf("contacts has %s %s, connections %s", got, outcome, rows)
		}
	}
}

// sumOf sums a column of an answer as CSV, whose cells before it have no commas.
func sumOf(t *testing.T, answer, column string) (sum int) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(answer), "\n")
	at := -1
	for i, name := range strings.Split(lines[0], ",") {
		if name == column {
			at = i
		}
	}
	for _, line := range lines[1:] {
		n := 0
		if _, err := fmt.Sscan(strings.Split(line, ",")[at], &n); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sum += n
	}
	return sum
}

// writeScan writes a tape of three segments: 40 connects that wait, and 5 that are established, in the first; the endings of 33
// of them in the second and the third.
func writeScan(t *testing.T) (dir string) {
	t.Helper()
	return testtape.Recorded(t, scanBatches)
}

// scanBatches are the batches of writeScan.
func scanBatches(now store.Anchor) []store.Batch {
	task, waiting, open, unmeasured := testtape.Task(7, "/usr/bin/nmap"), testtape.TCP(), testtape.TCP(), testtape.Unmeasured()
	waiting.Errno, open.Final, unmeasured.Duration = 115, store.FinalEstablished, 1_000_000
	first := now.Boot + 1000
	at := func(i int) uint64 { return first + uint64(i)*1_000_000 }
	batch := store.Batch{Now: at(50)}
	for i := range 45 {
		address := fmt.Sprintf("10.0.0.%d", i+1)
		c := store.Connection{BootTime: at(i), Task: task, Remote: &store.Endpoint{Family: 2, Address: address, Port: 22, Raw: []byte(address)}, Shape: waiting, FD: 3, Cookie: uint64(100 + i)}
		if i >= 40 {
			c.Shape = open
		}
		batch.Connections = append(batch.Connections, c)
	}
	finals := make([]store.Ending, 0, 45)
	end := func(from, to int, final store.Final) {
		for i := from; i < to; i++ {
			finals = append(finals, store.Ending{Connect: at(i), Cookie: uint64(100 + i), Final: final, Outcome: &unmeasured})
		}
	}
	end(0, 20, 111)
	end(20, 25, 110)
	end(25, 27, store.FinalAborted)
	end(27, 30, store.FinalEstablished)
	second := finals
	finals = nil
	end(30, 31, 104)
	end(40, 41, 110)
	end(41, 42, 104)
	batches := []store.Batch{batch, {Endings: second}, {Endings: finals}}
	for i := 1; i < len(batches); i++ {
		filler := batch.Connections[44]
		filler.BootTime, filler.Cookie = at(60+i), uint64(1000+i)
		batches[i].Connections = []store.Connection{filler}
	}
	return batches
}
