package table

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
	"zombiezen.com/go/sqlite"
)

// answer returns the rows of an answer, sorted, with its header.
func answer(t *testing.T, ask func(format.RowWriter) (ask.Result, error)) (string, error) {
	t.Helper()
	var out bytes.Buffer
	to, err := format.NewRowWriter("csv", &out, format.Options{Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(to); err != nil {
		return "", err
	}
	lines := strings.Split(strings.ReplaceAll(out.String(), "\r\n", "\n"), "\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n"), nil
}

// sameAsView asks SQL of the tape and of its rows in plain tables, and fails where the answers differ.
func sameAsView(t *testing.T, tape *store.Tape, stock *sqlite.Conn, sql string) {
	t.Helper()
	got, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
		return RunSQL(t.Context(), tape, ask.Request{SQL: sql}, out)
	})
	if err != nil {
		t.Errorf("%s: %v", sql, err)
	}
	want, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
		return ask.Run(t.Context(), stock, ask.Request{SQL: sql}, out)
	})
	if err != nil {
		t.Errorf("%s: %v", sql, err)
	}
	if got != want {
		a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("%s: line %d\nvirtual %s\nview    %s", sql, i, a[i], b[i])
				break
			}
		}
		t.Errorf("%s: %d and %d lines", sql, len(a), len(b))
	}
}

// Whatever a column is compared to, and however, the answer is that of the view: values that are there and that are not,
// of its kind and of others, with the rules by which SQLite converts them.
func TestComparisonsAreThoseOfTheView(t *testing.T) {
	tape := testtape.Generated(t, 400, 3)
	stock := testtape.StockOf(t, tape, input.Window{})
	for column := range comparisons {
		var values []string
		err := ask.Each(t.Context(), tape.Conn(), "SELECT DISTINCT "+column+", typeof("+column+") FROM connections ORDER BY abs(random()) LIMIT 2", func(row []format.Value) {
			text := string(row[0].AppendPlain(nil, false))
			switch row[0].Kind {
			case format.Integer:
				values = append(values, text, "'"+text+"'", text+".0", "'"+text+".0'")
			case format.Text:
				text = strings.ReplaceAll(string(row[0].Bytes), "'", "''")
				values = append(values, "'"+text+"'", "CAST('"+text+"' AS BLOB)", "upper('"+text+"') COLLATE NOCASE")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, "NULL", "'nothing'", "443", "-1", "'2026'", "x'00'", "0.5", "'it''s'")
		conditions := []string{column + " IN (" + strings.Join(values[:min(5, len(values))], ", ") + ")", column + " IS NULL", column + " = " + values[0] + " OR pid = 1"}
		for _, v := range values {
			for _, op := range []string{"=", "IS", "<", ">="} {
				conditions = append(conditions, column+" "+op+" "+v)
			}
			conditions = append(conditions, v+" = "+column)
		}
		for _, where := range conditions {
			sameAsView(t, tape, stock, "select segment, id, count, "+column+" from connections where "+where)
		}
	}
}

// Questions of every form have the answer of the view.
func TestAdHocIsTheView(t *testing.T) {
	tape := testtape.Generated(t, 3000, 3)
	segments := tape.Segments()
	from, to := segments[0].From, segments[len(segments)-1].To
	middle := from.Add(to.Sub(from) * 6 / 10)
	at := middle.UTC().Format("2006-01-02T15:04:05")
	questions := []string{
		"select * from connections where remote_port = 22",
		"select * from connections where remote_port = 443 and exe = '/usr/bin/curl' and outcome <> 'established'",
		"with x as (select * from connections where remote_port in (22, 443)) select exe, count(*) from x group by exe",
		"with x as (select * from connections where remote_port = 22) select a.pid, count(*) from x a join x b on a.pid = b.pid group by 1",
		"-- a comment\nselect count(*), min(time) from connections c where c.remote_port between 20 and 30 or exe like '%nmap';",
		"select (select count(*) from connections where remote_port = 443) + (select count(*) from connections where remote_port=53)",
		"select p.exe, count(*) from processes p join connections c on c.process_id = p.process_id and c.segment = p.segment where c.remote_port = 53 group by 1",
		"select pid, ancestry from processes where exists (select 1 from connections c where c.pid = processes.pid and c.remote_port = 22)",
		"select count(*) from connections",
		"select time, exe from connections where cmdline like '%a%' and remote_address glob '10.*'",
		"select time, exe from connections where exe like '%CURL' and user not like 'root'",
		"select count(*), remote_address from connections where remote_address like '_0.%' and exe glob '*[ab]*' group by 2",
		"select count(*) from connections where container like NULL or cmdline like 5 or exe glob x'2a'",
		"select count(*) from connections where cmdline like '%100\\%%' escape '\\' or remote_address like '1%'",
		"select count(*) from connections where cmdline like '%a\\%%' escape '\\'",
		"select count(*), max(time) from connections where remote_port like '4%' and outcome like 'e%' and via like 'conn%'",
		"select outcome, sum(count) from connections where time > '" + at + "' group by outcome",
		"select count(*), max(time) from connections where time >= '" + at + "' and time < '" + at[:13] + "'",
		"select count(*), min(time), max(time) from connections where time > '" + at + "Z'",
		"select count(*), min(time), max(time) from connections where time <= '" + at + "Z' and time >= '" + at[:16] + ":00Z'",
		"select count(*), max(time) from connections where time < '" + at + ".5Z'",
		"select count(*), max(time) from connections where time < '" + at[:10] + " 23:59:59'",
		"select count(*), max(time) from connections where time = (select max(time) from connections where time < '" + at + "Z')",
		"select count(*) from connections where time > '" + at[:10] + "' and time <= '" + at[:13] + "' || ':59'",
		"select time, remote_address from connections where time_ns > " + fmt.Sprint(middle.UnixNano()) + " order by time_ns limit 20",
		"select time, remote_address from connections where time_ns > " + fmt.Sprint(middle.UnixNano()) + ".5 order by time_ns desc limit 20",
		"select distinct user, container from connections where remote_ip = '198.51.100.66' or remote_ip like '10.%'",
		"select remote_address from connections where remote_address = '::ffff:198.51.100.66' union select exe from connections where pid = 1",
		"select a.time, b.time from connections a join connections b on a.remote_address = b.remote_address and a.pid = b.pid and a.time_ns < b.time_ns where a.remote_port = 22",
		"select count(*) from (select remote_address, lag(time_ns) over (partition by exe order by time_ns) as before from connections where exe = '/usr/bin/curl')",
		"select c.*, g.cause from connections c left join gaps g on g.segment = c.segment where c.remote_port = 22",
		"select via, type, protocol, fd, cookie, local_address, local_port, last_time, remote_raw from connections where errno = 111",
	}
	for _, w := range []input.Window{{}, {Since: middle}, {Until: middle}, {Since: middle, Until: middle.Add(2 * time.Hour)}} {
		tape.Bound(w.Since, w.Until)
		stock := testtape.StockOf(t, tape, w)
		for _, sql := range questions {
			sameAsView(t, tape, stock, sql)
		}
	}
}

// What is wrong with SQL is told of the SQL as it was written.
func TestErrorsOfAdHoc(t *testing.T) {
	tape := testtape.Generated(t, 100, 1)
	for sql, want := range map[string]string{
		"select nothere from connections where remote_port = 22":        `no such column: nothere at "nothere from connections`,
		"select * from connections where remote_port = = 22":            `syntax error`,
		"with connections as (select 1 as a) select b from connections": `no such column: b`,
		"select rowid from connections":                                 `no such column: rowid`,
	} {
		_, err := RunSQL(context.Background(), tape, ask.Request{SQL: sql}, ask.EachRow(func([]format.Value) error { return nil }))
		_, view := ask.Run(context.Background(), testtape.StockOf(t, tape, input.Window{}), ask.Request{SQL: sql}, ask.EachRow(func([]format.Value) error { return nil }))
		if err == nil || view == nil || !strings.Contains(err.Error(), want) || err.Error() != view.Error() {
			t.Errorf("%s: got %v, and of the view %v", sql, err, view)
		}
	}
}

// The time limit ends it in the middle of what is read beside the statement.
func TestAdHocHasATimeLimit(t *testing.T) {
	tape := testtape.Generated(t, 3000, 2)
	begun := time.Now()
	result, err := RunSQL(t.Context(), tape, ask.Request{
		SQL:     "select count(*) from connections a, connections b, connections c where a.pid + b.pid + c.pid = -1",
		Timeout: 300 * time.Millisecond,
	}, ask.EachRow(func([]format.Value) error { return nil }))
	if took := time.Since(begun); took > 5*time.Second || err == nil && result.Cut == "" || err != nil && !strings.Contains(err.Error(), "time limit") {
		t.Errorf("%v, %v after %v", result, err, took)
	}
}

// Where the clock of the host was set, a time is looked for wherever it may be.
func TestAdHocAcrossClockSteps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := generate.Options{Seed: 5, Connections: 3000, Processes: 40, Images: 20, Endpoints: 300, Begin: uint64(time.Hour), Span: 24 * time.Hour}
	stream := generate.New(o)
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	w, err := store.OpenWriter(dir, store.WriterOptions{
		Version: "test", Backend: "fexit", BootID: "00000000-0000-4000-8000-000000000001",
		Now: store.Anchor{Boot: o.Begin, Real: begin, Kind: "start"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []time.Duration{0, -10 * time.Hour, 30 * time.Hour, -3 * time.Hour} {
		rows := stream.Batch(nil, 750)
		at := rows[0].BootTime
		real := begin + int64(at-o.Begin) + int64(step)
		if err := w.Append(store.Batch{Connections: rows, Now: rows[len(rows)-1].BootTime, Anchors: []store.Anchor{{Boot: at, Real: real, Kind: "step"}}}); err != nil {
			t.Fatal(err)
		}
	}
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	if steps := askInt(t, tape, "SELECT count(DISTINCT offset_ns) FROM clock"); steps < 4 {
		t.Fatalf("%d different offsets", steps)
	}
	stock := testtape.StockOf(t, tape, input.Window{})
	for hour := -12; hour < 60; hour += 3 {
		at := time.Unix(0, begin).Add(time.Duration(hour) * time.Hour).UTC()
		for _, form := range []string{"2006-01-02T15:04:05.000000000Z", "2006-01-02T15:04", "2006-01-02T15:04:05Z", "2006-01-02"} {
			for _, op := range []string{">", "<=", "="} {
				sameAsView(t, tape, stock, "select id, time from connections where time "+op+" '"+at.Format(form)+"'")
			}
		}
	}
}

// askInt returns the number that SQL over the tables of the first segment gives.
func askInt(t *testing.T, tape *store.Tape, sql string) (n int64) {
	t.Helper()
	if err := Of(tape).Sources()[0].each(t.Context(), sql, func(row []format.Value) { n = row[0].Int }); err != nil {
		t.Fatal(err)
	}
	return n
}

// sameInOrder compares the answers to SQL of the tape and of plain tables, the order of rows too.
func sameInOrder(t *testing.T, tape *store.Tape, stock *sqlite.Conn, sql string) {
	t.Helper()
	want := testtape.CSVOf(t, sql, func(out format.RowWriter) (ask.Result, error) {
		return ask.Run(t.Context(), stock, ask.Request{SQL: sql}, out)
	})
	got := testtape.CSVOf(t, sql, func(out format.RowWriter) (ask.Result, error) {
		return RunSQL(t.Context(), tape, ask.Request{SQL: sql}, out)
	})
	if got != want {
		since, until := tape.Bounds()
		t.Errorf("%s, %v to %v:\nSQL  %.600s\ntape %.600s", sql, since, until, want, got)
	}
}
