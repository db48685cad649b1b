package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/test/testtape"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Whatever makes a canned query faster, its answer is that of its SQL: narrowed
// views and plans alike, on sealed segments and on one that is not, with windows.
func TestPlansAnswerLikeTheirSQL(t *testing.T) {
	tape := testtape.Generated(t, 10_000, 3)
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	segments := tape.Segments()
	from, to := segments[0].From, segments[len(segments)-1].To
	middle := from.Add(to.Sub(from) * 6 / 10)
	begun, ended := testtape.OverlapOf(t, tape, 1)
	inside := begun.Add(ended.Sub(begun) / 2)
	windows := []input.Window{{}, {Since: middle}, {Until: middle}, {Since: middle, Until: middle.Add(2 * time.Hour)}, {Since: inside}, {Until: inside}, {Since: begun, Until: inside}}
	compared := 0
	whole, narrowed := testtape.StockOf(t, tape, input.Window{}), make(map[input.Window]*sqlite.Conn)
	for _, w := range windows[1:] {
		narrowed[w] = testtape.StockOf(t, tape, w)
	}
	for _, c := range library {
		for _, given := range variantsOf(c) {
			for _, w := range windows {
				if c.OwnWindow && w.Since.IsZero() {
					continue
				}
				stock := whole
				if !c.OwnWindow && !w.IsOpen() {
					stock = narrowed[w]
				}
				compareWithSQL(t, tape, stock, c, given, w)
				compared++
			}
		}
	}
	if compared < 50 {
		t.Errorf("%d compared", compared)
	}
}

// variantsOf returns parameters that take every way of a query.
func variantsOf(c *Canned) []map[string]string {
	var variants []map[string]string
	switch c.Name {
	case "top":
		for _, by := range []string{"process", "destination", "port", "user", "container"} {
			variants = append(variants, map[string]string{"what": by, "limit": "0"}, map[string]string{"what": by, "limit": "7", "all": "true"})
		}
		for _, by := range []string{"bytes", "bytes_sent", "bytes_received"} {
			variants = append(variants, map[string]string{"by": by}, map[string]string{"what": "user", "by": by, "limit": "3"})
		}
	case "first-seen":
		variants = append(variants, map[string]string{"by": "pair"}, map[string]string{"by": "destination", "all": "true"})
	case "rare":
		variants = append(variants, map[string]string{"most": "3"}, map[string]string{"most": "100", "all": "true"})
	case "beacons":
		variants = append(variants, map[string]string{}, map[string]string{"score": "0", "least": "3", "all": "true"})
	case "fanout":
		variants = append(variants, map[string]string{}, map[string]string{"seconds": "600", "addresses": "5", "ports": "5", "all": "true"})
	case "exfiltration":
		variants = append(variants, map[string]string{}, map[string]string{"mib": "0", "times": "0", "most": "100000"}, map[string]string{"mib": "0", "times": "2"})
	case "long":
		variants = append(variants, map[string]string{}, map[string]string{"limit": "0"})
	case "diff":
		variants = append(variants, map[string]string{}, map[string]string{"factor": "2", "all": "true"}, map[string]string{"factor": "0", "base_since": "1970-01-01T00:00:00Z"},
			map[string]string{"base_until": "2100-01-01T00:00:00Z"}, map[string]string{"base_since": "2100-01-01T00:00:00Z", "base_until": "2000-01-01T00:00:00Z"})
	case "timeline":
		variants = append(variants, map[string]string{}, map[string]string{"all": "true"}, map[string]string{"seconds": "600"}, map[string]string{"seconds": "7"})
	case "who":
		for _, what := range []string{"198.51.100.66", "10.20.0.0/24", "22", "/run/docker.sock", "@none", "::/0", "::ffff:198.51.100.66", "fe80::1%eth0", "65535", "198.51.100.66:443", "[2001:db8::1]:443"} {
			variants = append(variants, map[string]string{"indicator": what}, map[string]string{"indicator": what, "port": "443", "all": "true"})
		}
	case "recent":
		variants = append(variants, map[string]string{"limit": "50"}, map[string]string{"limit": "1"}, map[string]string{"limit": "5000"})
	case "tree":
		for _, pid := range []string{"1", "354", "999999999"} {
			variants = append(variants, map[string]string{"process": pid}, map[string]string{"process": pid, "all": "true"})
		}
	case "sockets":
		variants = append(variants, map[string]string{})
	case "container":
		variants = append(variants, map[string]string{}, map[string]string{"id": "a", "all": "true"})
	case "session":
		variants = append(variants, map[string]string{}, map[string]string{"loginuid": "1000", "all": "true"})
	default:
		variants = append(variants, map[string]string{}, map[string]string{"all": "true"})
	}
	return variants
}

// compareWithSQL compares the answer to a canned query with that of its SQL over plain tables, which are narrowed to the
// window unless the query has its own.
func compareWithSQL(t *testing.T, tape *store.Tape, stock *sqlite.Conn, c *Canned, given map[string]string, w input.Window) {
	t.Helper()
	tape.Bound(w.Since, w.Until)
	if c.OwnWindow {
		tape.Bound(time.Time{}, time.Time{})
	}
	params, err := c.Bind(given, input.Clock{Now: time.Unix(0, 0)}, w)
	if err != nil {
		t.Fatal(err)
	}
	request := ask.Request{SQL: c.Source, Params: params}
	what := fmt.Sprintf("%s %v %v", c.Name, given, w)
	want := testtape.CSVOf(t, what, func(out format.RowWriter) (ask.Result, error) {
		return ask.Run(context.Background(), stock, request, out)
	})
	got := testtape.CSVOf(t, what, func(out format.RowWriter) (ask.Result, error) {
		return NewPlanned(tape, c, request, w).Run(context.Background(), out)
	})
	sameRows(t, what, c.Name, want, got)
	if !c.OwnWindow && !w.IsOpen() {
		return // one window shows what the limits do
	}
	got = testtape.CSVOf(t, what, func(out format.RowWriter) (ask.Result, error) {
		return within(lowLimits(tape), NewPlanned(tape, c, request, w)).Run(context.Background(), out)
	})
	sameRows(t, what+" in parts", c.Name, want, got)
}

// sameRows compares answers to a canned query, but for what its SQL leaves open.
func sameRows(t *testing.T, what, name, want, got string) {
	t.Helper()
	if got != want {
		a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
		if name == "fanout" && len(a) == len(b) && sortedLines(withoutExample(a)) == sortedLines(withoutExample(b)) {
			return // so is the destination that is an example
		}
		if name == "beacons" && len(a) == len(b) && sortedLines(withoutArguments(a)) == sortedLines(withoutArguments(b)) {
			return // arguments are those of one of the processes, rows of one score and n in no order
		}
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || a[i] != b[i] {
				t.Errorf("%s: line %d of %d and %d:\nSQL  %s\nplan %s", what, i, len(a), len(b), strings.Join(a[min(i, len(a)):min(i+1, len(a))], ""), strings.Join(b[min(i, len(b)):min(i+1, len(b))], ""))
				return
			}
		}
	}
}

// A match finds the same whether or not its questions are narrowed.
func TestMatchIsTheSameNarrowed(t *testing.T) {
	tape := testtape.Generated(t, 10_000, 3)
	list, err := indicator.Read(strings.NewReader("198.51.100.66 C2\n10.20.0.0/24\ntcp/22\n/dev/shm/.x/kworker\n/dev/shm/.x/nmap\n10.20.0.51:5432\n/run/docker.sock\n192.0.2.1\n"))
	if err != nil || len(list.Problems) > 0 {
		t.Fatal(err, list.Problems)
	}
	ask := func(view *table.KnownView) string {
		var out bytes.Buffer
		to, err := format.NewRowWriter("csv", &out, format.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := match(context.Background(), table.Of(tape), view, &list.Set, MatchRequest{}, to); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	narrowed, whole := ask(table.NewKnownView()), ask(nil)
	if narrowed != whole || strings.Count(whole, "\n") < 100 {
		t.Errorf("%d and %d rows", strings.Count(narrowed, "\n"), strings.Count(whole, "\n"))
	}
}

// Where there is no time, each question says so as any other does, and writes nothing.
func TestNothingInTime(t *testing.T) {
	tape := testtape.Generated(t, 5_000, 3)
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, ask func(format.RowWriter) (ask.Result, error)) {
		t.Helper()
		var out bytes.Buffer
		to, err := format.NewRowWriter("csv", &out, format.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ask(to); err == nil || err.Error() != "time limit of 1ns: nothing was answered in that time" || out.Len() > 0 {
			t.Errorf("%s: %q: %v", what, out.String(), err)
		}
	}
	for _, c := range library {
		w := input.Window{Since: tape.Segments()[0].From}
		params, err := c.Bind(variantsOf(c)[0], input.Clock{}, w)
		if err != nil {
			t.Fatal(err)
		}
		check(c.Name, func(out format.RowWriter) (ask.Result, error) {
			return NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params, Timeout: time.Nanosecond}, w).Run(t.Context(), out)
		})
	}
	list, err := indicator.Read(strings.NewReader("198.51.100.66\n"))
	if err != nil {
		t.Fatal(err)
	}
	check("match", func(out format.RowWriter) (ask.Result, error) {
		return Match(t.Context(), tape, &list.Set, MatchRequest{Request: ask.Request{Timeout: time.Nanosecond}}, out)
	})
}

// withoutArguments drops what follows the destination from rows of beacons.
func withoutArguments(lines []string) []string {
	var rest []string
	for _, line := range lines {
		cells := strings.SplitN(line, ",", 19)
		rest = append(rest, strings.Join(cells[:min(len(cells), 18)], ","))
	}
	return rest
}

func sortedLines(lines []string) string {
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// withoutExample keeps the time and the numbers of rows of fanout.
func withoutExample(lines []string) []string {
	var rest []string
	for _, line := range lines {
		cells := strings.SplitN(line, ",", 8)
		rest = append(rest, strings.Join(cells[:min(len(cells), 7)], ","))
	}
	return rest
}

// An export has the rows of the whole view in the order of time, and is cut where it
// is told to.
func TestExportIsTheView(t *testing.T) {
	tape := testtape.Generated(t, 3_000, 3)
	write := func(ask func(format.RowWriter) (ask.Result, error)) (string, ask.Result) {
		var out bytes.Buffer
		to, err := format.NewRowWriter("csv", &out, format.Options{})
		if err != nil {
			t.Fatal(err)
		}
		result, err := ask(to)
		if err != nil {
			t.Fatal(err)
		}
		return out.String(), result
	}
	stock := testtape.StockOf(t, tape, input.Window{})
	for _, limit := range []int64{0, 1, 999, 1000, 1001, 2000, 2999, 3000, 3001} {
		want, first := write(func(out format.RowWriter) (ask.Result, error) {
			return ask.Run(context.Background(), stock, ask.Request{SQL: "SELECT * FROM connections ORDER BY time_ns", Limit: limit}, out)
		})
		got, second := write(func(out format.RowWriter) (ask.Result, error) {
			return Export(context.Background(), tape, Filter{}, ask.Request{Limit: limit}, out)
		})
		if got != want || first != second {
			t.Errorf("limit %d: %v and %v, %d and %d bytes", limit, first, second, len(want), len(got))
		}
	}
}

// A tape whose ids lead nowhere, or far away, has wrong answers and harms nobody.
func TestPlansOfAlteredTape(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := generate.Options{Seed: 3, Connections: 3000, Processes: 20, Images: 10, Endpoints: 100, Begin: uint64(time.Hour), Span: 24 * time.Hour}
	if err := generate.WriteTape(dir, generate.New(o), 2); err != nil {
		t.Fatal(err)
	}
	for i, poison := range []string{
		"UPDATE posting SET remote = remote + 3000000000", "UPDATE posting SET list = randomblob(900)", "UPDATE posting SET list = x'00'", "UPDATE posting SET list = CAST(list || list AS BLOB)",
		"UPDATE posting SET list = zeroblob(20000000) WHERE remote = 3", "UPDATE posting SET list = CAST(x'01010101ff01' || substr(list, 5) AS BLOB), first_ns = -9223372036854775807, last_ns = 9223372036854775807",
		"UPDATE posting SET first_ns = 0, last_ns = 9223372036854775807", "UPDATE reach SET remotes = randomblob(300)", "UPDATE reach SET task = task + 5000000000", "DELETE FROM task",
		"UPDATE endpoint SET id = id + 4000000000000", "UPDATE seal SET first_ns = 5, last_ns = 6", "INSERT INTO repeat SELECT id, -5, -9223372036854775807 FROM connection WHERE id % 3 = 0",
		"UPDATE connection SET id = 9223372036854775807 WHERE id = (SELECT max(id) FROM connection)", "UPDATE connection SET id = -9223372036854775807 WHERE id = (SELECT max(id) FROM connection)",
		"DELETE FROM shape", "UPDATE connection SET remote = 77777777777, task = -1", "DELETE FROM clock",
	} {
		path := filepath.Join(dir, "00000001.db")
		altered := filepath.Join(t.TempDir(), "00000001.db")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(altered, text, 0o600); err != nil {
			t.Fatal(err)
		}
		conn, err := sqlite.OpenConn(altered, sqlite.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		if err := sqlitex.ExecuteScript(conn, poison, nil); err != nil {
			t.Fatalf("%s: %v", poison, err)
		}
		if err := errors.Join(conn.Close(), sqlitefile.AppendSums(altered, 0)); err != nil {
			t.Fatal(err)
		}
		tape, err := store.OpenTape(altered)
		if err != nil {
			continue // it is refused: as good
		}
		library, err := Library()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range library {
			for _, given := range variantsOf(c)[:1] {
				params, err := c.Bind(given, input.Clock{}, input.Window{Since: time.Unix(1, 0)})
				if err != nil {
					t.Fatal(err)
				}
				w := input.Window{}
				if c.OwnWindow {
					w.Since = time.Unix(1, 0)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				_, err = NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params, Limit: 100}, w).Run(ctx, ask.EachRow(func([]format.Value) error { return nil }))
				cancel()
				if ctx.Err() == context.DeadlineExceeded {
					t.Errorf("%d, %s: does not end: %v", i, c.Name, err)
				}
			}
		}
		tape.Close()
	}
}

// Two tapes are compared as two windows of one are: a tape with itself, in two windows.
func TestCompareTapesLikeWindows(t *testing.T) {
	tape := testtape.Generated(t, 10_000, 3)
	diff := cannedNamed(t, "diff")
	segments := tape.Segments()
	from, to := segments[0].From, segments[len(segments)-1].To
	middle := from.Add(to.Sub(from) / 2)
	stock := testtape.StockOf(t, tape, input.Window{})
	base, w := input.Window{Since: from, Until: middle}, input.Window{Since: middle, Until: to}
	for _, all := range []bool{false, true} {
		given := map[string]string{"factor": "2", "all": strconv.FormatBool(all), "base_since": base.Since.Format(time.RFC3339Nano), "base_until": base.Until.Format(time.RFC3339Nano)}
		params, err := diff.Bind(given, input.Clock{}, w)
		if err != nil {
			t.Fatal(err)
		}
		want := testtape.CSVOf(t, "SQL", func(out format.RowWriter) (ask.Result, error) {
			return ask.Run(t.Context(), stock, ask.Request{SQL: diff.Source, Params: params}, out)
		})
		got := testtape.CSVOf(t, "tapes", func(out format.RowWriter) (ask.Result, error) {
			return Compare(t.Context(), Compared{tape, w}, Compared{tape, base}, Comparison{Factor: 2, All: all}, out)
		})
		for _, change := range []string{"new", "gone"} {
			if !strings.Contains(want, "\n"+change+",") {
				t.Errorf("all %t: nothing is %s", all, change)
			}
		}
		if got != want {
			t.Errorf("all %t: differs:\nSQL\n%.2000s\ntapes\n%.2000s", all, want, got)
		}
		for _, f := range []Filter{{Port: "443"}, {To: "10.0.0.0/8"}, {User: "root", Outcome: "established"}, {Where: "time_ns % 3 > 0"}} {
			want := testtape.CSVOf(t, "SQL", func(out format.RowWriter) (ask.Result, error) {
				request, err := f.Apply(ask.Request{SQL: diff.Source, Params: params})
				if err != nil {
					t.Fatal(err)
				}
				return table.RunSQL(t.Context(), tape, request, out)
			})
			got := testtape.CSVOf(t, "tapes", func(out format.RowWriter) (ask.Result, error) {
				return Compare(t.Context(), Compared{tape, w}, Compared{tape, base}, Comparison{Factor: 2, All: all, Filter: f}, out)
			})
			if got != want || strings.Count(got, "\n") < 3 {
				t.Errorf("all %t, %+v: differs:\nSQL\n%.2000s\ntapes\n%.2000s", all, f, want, got)
			}
		}
	}
}
