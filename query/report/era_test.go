package report

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// Only the run that records may still tell an end: a connection of the run before, or one whose outcome may have been among those
// that were lost, is in progress no more. Whoever reads it, by whatever way, is told so.
func TestOutcomeOfEarlierRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	task := testtape.Task(7, "/usr/bin/ssh")
	open := testtape.TCP()
	open.Final = store.FinalEstablished
	waiting, local := *open, *open
	waiting.Final, waiting.Errno = store.FinalUnknown, 115
	local.Final, local.Errno, local.Protocol, local.SocketFamily = store.FinalUnknown, 115, 0, 40
	heard := store.Outcome{LocalPort: 40000, Established: 5_000_000, Duration: store.Unmeasured, Sent: store.Unmeasured, Received: store.Unmeasured, Retransmits: store.Unmeasured, RTT: 30}
	start := func() *store.Writer {
		t.Helper()
		return testtape.Record(t, dir, testtape.Anchor(t, "start"))
	}
	connect := func(w *store.Writer, address string, gaps ...store.Gap) {
		t.Helper()
		now := testtape.Anchor(t, "tick")
		b := store.Batch{Now: now.Boot + 5000}
		for i := range gaps {
			gaps[i].From, gaps[i].To = now.Boot, now.Boot+4000
		}
		b.Gaps = gaps
		for i, shape := range []*store.Shape{&waiting, open, &local} {
			at := now.Boot + uint64(i)*1000
			c := store.Connection{BootTime: at, Task: task, Remote: &store.Endpoint{Family: 2, Address: address, Port: 22, Raw: []byte(address)}, Shape: shape, FD: 3, Cookie: at}
			if shape == open {
				c.Outcome = &heard
			}
			b.Connections = append(b.Connections, c)
		}
		if err := w.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	first := start()
	connect(first, "192.0.2.1")
	if err := first.Close(store.Gap{}, nil); err != nil {
		t.Fatal(err)
	}
	check := func(want ...string) {
		t.Helper()
		lines := strings.Join(want, "\n") + "\n"
		tape := testtape.Opened(t, dir)
		const columns = `remote_address, outcome, outcome_source`
		if got := answerOf(t, tape, `SELECT `+columns+` FROM connections ORDER BY time_ns`); got != lines {
			t.Errorf("connections:\n%s\nwant\n%s", got, lines)
		}
		var view strings.Builder
		err := tape.Use(0, func(conn *sqlite.Conn) error {
			return sqlitex.ExecuteTransient(conn, `SELECT `+columns+` FROM connections ORDER BY time_ns`, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
				view.WriteString(row.ColumnText(0) + "," + row.ColumnText(1) + "," + row.ColumnText(2) + "\n")
				return nil
			}})
		})
		if err != nil || view.String() != lines {
			t.Errorf("the view of the segment: %v\n%s\nwant\n%s", err, view.String(), lines)
		}
		// The same of contacts, put together, and where it is compared.
		counts := make(map[string]int)
		for _, line := range want {
			counts[strings.Split(line, ",")[1]]++
		}
		for outcome, n := range counts {
			for _, table := range []string{"count(*) FROM connections", "coalesce(sum(rows), 0) FROM contacts"} {
				if got := answerOf(t, tape, `SELECT `+table+` WHERE outcome = '`+outcome+`'`); got != string(rune('0'+n))+"\n" {
					t.Errorf("%s %s: %s, want %d", table, outcome, got, n)
				}
			}
		}
	}
	check("192.0.2.1,unknown,recording ended", "192.0.2.1,established,recording ended", "192.0.2.1,unknown,")
	second := start()
	defer func() { second.Close(store.Gap{}, nil) }()
	connect(second, "192.0.2.2")
	before := []string{"192.0.2.1,unknown,recording ended", "192.0.2.1,established,recording ended", "192.0.2.1,unknown,"}
	check(append(before, "192.0.2.2,in progress,", "192.0.2.2,established,open", "192.0.2.2,in progress,")...)
	connect(second, "192.0.2.3", store.Gap{Cause: "outcomes lost", Lost: 1})
	before = append(before, "192.0.2.2,unknown,outcomes lost", "192.0.2.2,established,outcomes lost", "192.0.2.2,unknown,")
	connect(second, "192.0.2.4")
	check(append(before, "192.0.2.3,unknown,outcomes lost", "192.0.2.3,established,outcomes lost", "192.0.2.3,unknown,",
		"192.0.2.4,in progress,", "192.0.2.4,established,open", "192.0.2.4,in progress,")...)
}

// A connection whose segment is closed is still followed by the run that records, and so is one of an earlier run that this one
// found open. Who asks a tape that was opened a while ago is told what was true then.
func TestOutcomeOfClosedSegment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	task := testtape.Task(7, "/usr/bin/ssh")
	open := testtape.TCP()
	open.Final = store.FinalEstablished
	waiting := *open
	waiting.Final, waiting.Errno = store.FinalUnknown, 115
	unmeasured := testtape.Unmeasured()
	run := func(at store.Anchor) *store.Writer {
		t.Helper()
		return testtape.Record(t, dir, at)
	}
	connect := func(w *store.Writer, at uint64, shapes ...*store.Shape) {
		t.Helper()
		b := store.Batch{Now: at + 5000}
		for i, shape := range shapes {
			at := at + uint64(i)*1000
			address := fmt.Sprintf("192.0.2.%d", i+1)
			c := store.Connection{BootTime: at, Task: task, Remote: &store.Endpoint{Family: 2, Address: address, Port: 22, Raw: []byte(address)}, Shape: shape, FD: 3, Cookie: at}
			if shape == open {
				c.Outcome = &unmeasured
			}
			b.Connections = append(b.Connections, c)
		}
		if err := w.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	now, err := store.ReadAnchor("start")
	if err != nil {
		t.Fatal(err)
	}
	first := run(now)
	connect(first, now.Boot, &waiting, open, open)
	if err := errors.Join(first.Rotate(), first.Append(store.Batch{Now: now.Boot + 6000})); err != nil {
		t.Fatal(err)
	}
	ask := func(tape *store.Tape) string {
		t.Helper()
		return answerOf(t, tape, `SELECT remote_address || ' ' || outcome || ' ' || coalesce(outcome_source, '') || ' ' || coalesce(bytes_sent, '') || ' ' || coalesce(open_ns, '') FROM connections ORDER BY time_ns LIMIT 3`)
	}
	followed := "192.0.2.1 in progress   \n192.0.2.2 established open  \n192.0.2.3 established open  \n"
	tape := testtape.Opened(t, dir)
	if got := ask(tape); got != followed {
		t.Errorf("while it is recorded: %s", got)
	}
	if err := first.Close(store.Gap{}, nil); err != nil {
		t.Fatal(err)
	}
	if got := ask(testtape.Opened(t, dir)); strings.Contains(got, "open") || !strings.Contains(got, "recording ended") {
		t.Errorf("after the end: %s", got)
	}
	if got := ask(tape); got != followed {
		t.Errorf("as it was: %s", got)
	}
	again := now
	again.Boot, again.Real = now.Boot+60e9, now.Real+60e9
	second := run(again)
	defer func() { second.Close(store.Gap{}, nil) }()
	connect(second, again.Boot+1000, open)
	seen := unmeasured
	seen.Sent, seen.Received, seen.SeenOpen = 100, 200, 61e9
	if err := second.Append(store.Batch{Now: again.Boot + 2e9, Endings: []store.Ending{{Connect: now.Boot + 1000, Cookie: now.Boot + 1000, Final: store.FinalEstablished, Outcome: &seen}}}); err != nil {
		t.Fatal(err)
	}
	want := "192.0.2.1 unknown recording ended  \n192.0.2.2 established open 100 61000000000\n192.0.2.3 established recording ended  \n"
	if got := ask(testtape.Opened(t, dir)); got != want {
		t.Errorf("of the run that found it: got\n%swant\n%s", got, want)
	}
}
