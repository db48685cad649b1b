package report

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// A connection of the first segment ends in the third: the answer has its end. Of the first segment alone it says that it
// has not.
func TestOutcomeOfLaterSegment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	now := testtape.Anchor(t, "start")
	w := testtape.Record(t, dir, now)
	closed := false
	defer func() {
		if !closed {
			w.Close(store.Gap{}, nil)
		}
	}()
	task := testtape.Task(7, "/usr/bin/ssh")
	to := func(address string) *store.Endpoint {
		return &store.Endpoint{Family: 2, Address: address, Port: 22, Raw: []byte(address)}
	}
	local := &store.Endpoint{Family: 2, Address: "10.0.0.5", Raw: []byte("local")}
	shape := testtape.TCP()
	shape.Final = store.FinalEstablished
	waiting := *shape
	waiting.Final, waiting.Errno = store.FinalUnknown, 115
	unmeasured := testtape.Unmeasured()
	unmeasured.Local, unmeasured.LocalPort, unmeasured.Established, unmeasured.RTT = local, 40000, 5_000_000, 30
	first := now.Boot + 1000
	var batch store.Batch
	for i, address := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"} {
		c := store.Connection{BootTime: first + uint64(i)*1000, Task: task, Remote: to(address), Shape: shape, FD: 3, Cookie: 100 + uint64(i), Outcome: &unmeasured}
		if i == 3 {
			c.Shape, c.Outcome = &waiting, nil
		}
		batch.Connections = append(batch.Connections, c)
	}
	appendBatch := func(b store.Batch) {
		t.Helper()
		if err := w.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	appendBatch(batch)
	for range 2 {
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		later := testtape.Anchor(t, "tick")
		appendBatch(store.Batch{Connections: []store.Connection{{BootTime: later.Boot, Task: task, Remote: to("192.0.2.9"), Shape: shape, FD: 3, Cookie: later.Boot, Outcome: &unmeasured}}})
	}
	ended := unmeasured
	ended.Duration, ended.Sent, ended.Received, ended.Retransmits, ended.ClosedBy = 7200_000_000_000, 3<<20, 14<<10, 2, store.ClosedByRemote
	refused := unmeasured
	refused.Established, refused.Duration, refused.RTT = store.Unmeasured, 300_000, store.Unmeasured
	appendBatch(store.Batch{Endings: []store.Ending{
		{Connect: first, Cookie: 100, Final: store.FinalEstablished, Outcome: &ended},
		{Connect: first + 1000, Cookie: 101, Final: 104, Outcome: &ended},
		{Connect: first + 2000, Cookie: 999, Final: 104, Outcome: &ended}, // another socket's
		{Connect: first + 3000, Cookie: 103, Final: 111, Outcome: &refused},
	}})
	const sql = `SELECT remote_address, outcome, outcome_errno, duration_ns, bytes_sent, bytes_received, retransmits, closed_by, outcome_source, local_address, local_port
		FROM connections WHERE remote_address < '192.0.2.9' ORDER BY time_ns`
	want := strings.Join([]string{
		"192.0.2.1,established,0,7200000000000,3145728,14336,2,remote,kernel,10.0.0.5,40000",
		"192.0.2.2,reset,104,7200000000000,3145728,14336,2,remote,kernel,10.0.0.5,40000",
		"192.0.2.3,established,0,,,,,,open,10.0.0.5,40000",
		"192.0.2.4,refused,111,300000,,,,,kernel,10.0.0.5,40000", ""}, "\n")
	ask := func(path, sql string) string {
		t.Helper()
		tape := testtape.Opened(t, path)
		return answerOf(t, tape, sql)
	}
	waitFor(t, func() bool { return len(sealedFiles(t, dir)) == 2 })
	if got := ask(dir, sql); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := ask(dir, `SELECT remote_address FROM connections WHERE outcome = 'refused'`); got != "192.0.2.4\n" {
		t.Errorf("the refused are %q", got)
	}
	if got, want := outcomesOf(t, dir, "who", map[string]string{"indicator": "192.0.2.0/29"}), []string{"3.0 MiB out, 14 KiB in, 2h", "reset, 3.0 MiB out, 14 KiB in, 2h", "established", "refused after 0.3 ms"}; !slices.Equal(got, want) {
		t.Errorf("who says %q, want %q", got, want)
	}
	err := w.Close(store.Gap{}, nil)
	if closed = true; err != nil {
		t.Fatal(err)
	}
	alone := filepath.Join(t.TempDir(), "00000001.db")
	text, err := os.ReadFile(filepath.Join(dir, "00000001.db"))
	if err == nil {
		err = os.WriteFile(alone, text, 0o400)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(alone, `SELECT DISTINCT outcome_source FROM connections WHERE outcome = 'established'`); got != "not in this file\n" {
		t.Errorf("the segment alone says %q", got)
	}
	const lacks = ", outcome not in this file"
	if got, want := outcomesOf(t, alone, "recent", nil), []string{"unknown" + lacks, "established" + lacks, "established" + lacks, "established" + lacks}; !slices.Equal(got, want) {
		t.Errorf("recent says of the segment alone %q, want %q", got, want)
	}
	for path, want := range map[string]bool{dir: false, alone: true} { // who and the others, whose rows are of several connections
		told, err := testtape.Opened(t, path).Coverage()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Join(coverage.New(told, input.Window{}, nil).Lines(true), "\n")
		if strings.Contains(lines, "the outcome is not in this file") != want || want && strings.Contains(lines, "ended without being stopped") {
			t.Errorf("%s: %s", path, lines)
		}
	}
}

// outcomesOf returns the column outcome of a query.
func outcomesOf(t *testing.T, path, query string, given map[string]string) (words []string) {
	t.Helper()
	c := cannedNamed(t, query)
	at := slices.IndexFunc(c.Columns, func(c ColumnDoc) bool { return c.Name == "outcome" })
	params, err := c.Bind(given, input.Clock{}, input.Window{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewPlanned(testtape.Opened(t, path), c, ask.Request{SQL: c.Source, Params: params}, input.Window{}).Run(t.Context(), ask.EachRow(func(row []format.Value) error {
		words = append(words, string(row[at].Bytes))
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return words
}

func sealedFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o222 == 0 {
			names = append(names, name)
		}
	}
	return names
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// answerOf returns the rows of an answer.
func answerOf(t *testing.T, tape *store.Tape, sql string) string {
	t.Helper()
	var b strings.Builder
	out, err := format.NewRowWriter("csv", &b, format.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.RunSQL(t.Context(), tape, ask.Request{SQL: sql}, out); err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(b.String(), "\n")
	return rows
}
