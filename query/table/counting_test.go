package table

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// bothWays asks SQL the way RunSQL takes, which must be that over contacts, and of the rows of the views in plain tables. The
// answers must have the same bytes, in the same order.
func bothWays(t *testing.T, tape *store.Tape, stock *sqlite.Conn, sql string) {
	t.Helper()
	r := ask.Request{SQL: sql, Clock: input.Clock{Now: time.Unix(1_800_000_000, 0)}}
	var ran way
	got := inOrder(t, func(out format.RowWriter) (result ask.Result, err error) {
		result, ran, err = runSQL(t.Context(), Of(tape), r, out)
		return result, err
	})
	if ran.rows != "" {
		t.Errorf("%s: by rows, because %s", sql, ran.rows)
	}
	want := inOrder(t, func(out format.RowWriter) (ask.Result, error) { return ask.Run(t.Context(), stock, r, out) })
	if got != want {
		t.Errorf("%s\nas %s\ncontacts %s\nrows     %s", sql, ran.sql, ask.Shorten(strings.ReplaceAll(got, "\n", " / "), 1500), ask.Shorten(strings.ReplaceAll(want, "\n", " / "), 1500))
	}
}

// inOrder returns an answer in JSON, which tells types apart, or its error.
func inOrder(t *testing.T, ask func(format.RowWriter) (ask.Result, error)) string {
	t.Helper()
	var text strings.Builder
	out, err := format.NewRowWriter("jsonl", &text, format.Options{Raw: true})
	if err == nil {
		_, err = ask(out)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return text.String()
}

// statements makes random statements of the grammar.
type statements struct {
	*rand.Rand
	at time.Time // in the middle of the tape
}

func (s *statements) pick(list ...string) string { return list[s.IntN(len(list))] }

func (s *statements) column() string {
	return s.pick("exe", "user", "remote_address", "remote_port", "remote_ip", "outcome", "pid", "uid", "container", "family", "type", "protocol", "comm", "segment", "errno", "cmdline", "parent_id", "remote_raw", "via", "ppid", "loginuid")
}

func (s *statements) term() string {
	c := s.column()
	return s.pick(c, c, c, "lower("+c+")", "coalesce("+c+", 'none')", "substr("+c+", 1, 4)", "typeof("+c+")", c+" IS NULL", "CASE WHEN remote_port < 1024 THEN 'low' ELSE outcome END",
		"substr(time, 1, 13)", "substr(time, 1, 16)", "time_ns / 3600000000000", "substr(time, 1, 10) || "+c)
}

func (s *statements) value() string {
	return s.pick("443", "22", "53", "NULL", "'root'", "'/usr/bin/curl'", "'refused'", "'1000'", "1000", "''", "'10.0.0.1'", "0", "1.5", "'udp'", "x'00'")
}

func (s *statements) condition() string {
	c, v := s.column(), s.value()
	return s.pick(c+" = "+v, c+" IS "+v, c+" <> "+v, c+" IS NOT NULL", c+" IS NULL", c+" LIKE '%"+s.pick("a", "/", "1", "5", "c_rl")+"%'", c+" GLOB '*[a-f]*'",
		c+" IN ("+v+", "+s.value()+", "+s.value()+")", c+" NOT IN (443, 'root')", c+" BETWEEN 20 AND 500", c+" >= "+v, "NOT "+c+" = "+v, "("+c+" = "+v+" OR "+s.column()+" = "+s.value()+")",
		c+" IN (SELECT "+c+" FROM connections WHERE remote_port = 22)", "cidr_match(remote_ip, '10.0.0.0/8')", c+" NOT LIKE 'a%' COLLATE NOCASE", "length("+c+") > 4",
		"EXISTS (SELECT 1 FROM processes p WHERE p.process_id = connections.process_id AND p.uid = 0)")
}

// alike is a condition that may stand in an aggregate.
func (s *statements) alike() string {
	return s.pick("outcome = 'refused'", s.column()+" IS NULL", "remote_port IN (22, 443)", "exe LIKE '%a%'", "uid BETWEEN 0 AND 1000")
}

func (s *statements) timed() string {
	stamp, ns := s.at.UTC().Format("2006-01-02T15:04:05"), s.at.UnixNano()
	return s.pick("time > '"+stamp+"'", fmt.Sprintf("time_ns <= %d", ns), "time BETWEEN '"+stamp[:10]+"' AND '"+stamp+".5'", fmt.Sprintf("%d < time_ns", ns), "time >= (SELECT min(from_time) FROM segments)", "time < ago('1h')")
}

func (s *statements) aggregate() string {
	c := s.column()
	a := s.pick("count(*)", "count(*)", "sum(count)", "count(DISTINCT "+c+")", "count("+c+")", "min(time)", "max(time)", "min(time_ns)", "max(time_ns)", "min(last_time)", "max(last_time)", "min(id)", "max("+c+")", "min("+c+")",
		"sum("+s.alike()+")", "sum(CASE outcome WHEN 'refused' THEN 1 ELSE 0 END)", "count(DISTINCT lower("+c+") || 'x')")
	if s.IntN(4) == 0 {
		a += " FILTER (WHERE " + s.alike() + ")"
	}
	return s.pick(a, a, a, a+" + 0", "coalesce("+a+", 'nothing')", "typeof("+a+")")
}

// next returns a statement.
func (s *statements) next() string {
	var results, group, order []string
	for range s.IntN(3) {
		group = append(group, s.term())
	}
	results = append(results, group...)
	distinct := len(group) > 0 && s.IntN(4) == 0
	for range 1 + s.IntN(3) {
		if !distinct {
			results = append(results, s.aggregate())
		}
	}
	sql := s.pick("SELECT ", "select\n", "/* n */ SELECT ")
	if distinct {
		sql += "DISTINCT "
	}
	for i, e := range results {
		if i > 0 {
			sql += ", "
		}
		if sql += e; s.IntN(3) == 0 {
			sql += s.pick(" AS n", " rows", " last_time", " connects") + s.pick("", fmt.Sprint(i))
		}
		if s.IntN(3) == 0 {
			order = append(order, s.pick(fmt.Sprint(i+1), e)+s.pick("", " DESC", " ASC"))
		}
	}
	var where []string
	for range s.IntN(3) {
		where = append(where, s.condition())
	}
	if s.IntN(3) == 0 && !strings.Contains(strings.Join(where, " "), " OR ") { // a time in such a condition is asked by rows
		where = append(where, s.timed())
	}
	sql += " FROM connections"
	if text := strings.Join(where, " AND "); len(where) > 0 && !(distinct && strings.Contains(text, " OR ")) {
		sql += " WHERE " + text
	}
	if len(group) > 0 && !distinct {
		sql += " GROUP BY " + strings.Join(group, ", ")
		if s.IntN(3) == 0 {
			sql += " HAVING " + s.aggregate() + s.pick(" > 2", " IS NOT NULL", " < 100")
		}
	}
	if len(order) > 0 {
		sql += " ORDER BY " + strings.Join(order, ", ")
	}
	if s.IntN(3) == 0 {
		sql += " LIMIT " + s.pick("1", "3", "10", "5 OFFSET 2")
	}
	return sql + s.pick("", ";", " -- end")
}

// What counts over connections has the same bytes over contacts, whatever the statement and the tape.
func TestCountedAsByRows(t *testing.T) {
	number := 150
	if os.Getenv("CONNTAPE_TEST_LONG") != "" {
		number = 5000
	}
	for name, script := range map[string]string{
		"generated": "",
		"odd":       testtape.Oddities,
		"repeats":   `INSERT OR REPLACE INTO repeat SELECT id, 2 + id % 7, id + 5000000000 * (id % 3) FROM connection WHERE %[1]d = 2 AND id % 5 = 0; UPDATE clock SET offset_ns = offset_ns + 3600000000000 * %[1]d;`,
		"steps":     `INSERT OR REPLACE INTO clock SELECT id, -3600000000000, 'step', NULL FROM connection WHERE id % 97 = 0; DELETE FROM endpoint WHERE id % 31 = 0; DELETE FROM process WHERE id % 29 = 0;`,
	} {
		t.Run(name, func(t *testing.T) {
			tape := testtape.Altered(t, 1500, script)
			stock := testtape.StockOf(t, tape, input.Window{})
			s := &statements{Rand: rand.New(rand.NewPCG(testtape.SeedOfTapes(t), uint64(len(name))))}
			if err := ask.Each(t.Context(), stock, "SELECT time_ns FROM connections ORDER BY 1 LIMIT 1 OFFSET 700", func(row []format.Value) { s.at = time.Unix(0, row[0].Int) }); err != nil {
				t.Fatal(err)
			}
			for range number {
				if bothWays(t, tape, stock, s.next()); t.Failed() {
					return
				}
			}
		})
	}
}

// Statements as people type them are counted over contacts, joins among them.
func TestCountedForms(t *testing.T) {
	tapes := []*store.Tape{testtape.Generated(t, 3000, 3), openNasty(t, nasty(t))}
	stocks := []*sqlite.Conn{testtape.StockOf(t, tapes[0], input.Window{}), testtape.StockOf(t, tapes[1], input.Window{})}
	for _, sql := range []string{
		"select count(*) from connections", "SELECT COUNT(*) AS rows FROM connections", "select sum(count), min(time), max(time) from connections",
		"select exe, count(*) n from connections group by exe having n > 5 order by n desc, exe limit 3",
		"select exe, count(*) from connections c where c.remote_port = 443 and \"user\" = 'root' group by c.exe",
		"select [exe], count(distinct `remote_address`) from connections group by 1 order by 2 desc, 1",
		"select lower(exe) as e, count(*) from connections group by e order by e desc",
		"select user as exe, count(*) from connections group by user",
		"select distinct user, exe from connections", "select distinct exe from connections order by exe desc limit 3",
		"select container, exe, count(*) from connections where container is not null group by 1, 2",
		"select remote_address, count(*) from connections where remote_address in (select remote_address from connections where exe like '%curl') group by 1",
		"select count(*) from connections where process_id in (select process_id from processes where uid = 0)",
		"select p.exe, source, count(*) n from connections c join processes p on p.process_id = c.process_id and p.segment = c.segment group by p.exe, source",
		"select source, sum(count) from connections join processes using (process_id, segment) group by source",
		"select exe, count(*) filter (where outcome = 'refused') as refused, count(*) from connections group by exe",
		"select count(*) from connections where time >= ago('1d')", "select count(*) from connections where 0", "select sum(count) from connections where exe = 'nothing'",
		"select substr(time, 1, 13) h, count(*) from connections group by h", "select substr(time, 1, 10), exe, sum(count), min(time), max(last_time) from connections group by 1, 2 order by 3 desc, 1, 2",
		"select substring(c.time, 1, 16) || ':00Z', count(*) from connections c where remote_port = 443 group by 1 having count(*) > 1",
		"select exe, count(distinct substr(time, 1, 10)) days, min(substr(time, 1, 7)) from connections group by exe order by days desc, exe",
		"select time_ns / 3600000000000 * 3600 as h, count(*) from connections group by h order by h", "select time_ns/60000000000, substr(time,1,13), count(*) from connections group by 1, 2",
		"select distinct substr(time, 1, 13) from connections", "select count(*) from connections where substr(time, 1, 13) = substr(time, 1, 13)",
		"select sum(case when substr(time, 1, 13) > '2026-03-01T12' then 1 else 0 end), sum(substr(time, 1, 13) > '2026-03-01T12') from connections",
		"select substr(time, 1, 13), outcome, count(*) filter (where substr(time, 1, 4) = '2026') from connections group by 1, 2 order by 1, 2",
		"select exe from connections where remote_port = 22 group by exe", "select exe from connections group by exe having count(*) > 10 and max(last_time) > '2026'",
	} {
		for i, tape := range tapes {
			bothWays(t, tape, stocks[i], sql)
		}
	}
}

// What cannot be counted over contacts is asked by rows, and the reason is told.
func TestNotCounted(t *testing.T) {
	tape := testtape.Generated(t, 400, 3)
	stock := testtape.StockOf(t, tape, input.Window{})
	for sql, why := range map[string]string{
		"select * from connections where remote_port = 22":                                                      "\"*\"",
		"select exe, pid from connections where remote_port = 22":                                               "lists connections",
		"select exe, count(*), user from connections group by exe":                                              "group by user",
		"select exe, max(time), user from connections group by exe":                                             "group by user",
		"select exe, count(*) from connections group by exe order by pid":                                       "group by pid",
		"select substr(time, 1, 17), count(*) from connections group by 1":                                      "time",
		"select substr(time, 2, 5), count(*) from connections group by 1":                                       "time",
		"select substr(last_time, 1, 13), count(*) from connections group by 1":                                 "last_time",
		"select time_ns / 1000000000, count(*) from connections group by 1":                                     "time_ns",
		"select time_ns % 3600000000000, count(*) from connections group by 1":                                  "time_ns",
		"select time / 3600000000000, count(*) from connections group by 1":                                     "time",
		"select strftime('%H', time), count(*) from connections group by 1":                                     "time",
		"select avg(count) from connections":                                                                    "count",
		"select sum(remote_port) from connections":                                                              "sum",
		"select sum(distinct count) from connections":                                                           "count",
		"select count(distinct time) from connections":                                                          "time",
		"select count(*) from connections where fd = 3":                                                         "fd",
		"select count(*) from connections where time > '2026' or exe = 'x'":                                     "time",
		"select count(*) from connections where not time > '2026'":                                              "time",
		"select count(*) from connections where time like '2026%'":                                              "time",
		"select count(*) from connections where time_ns > 1.5":                                                  "time",
		"select count(*) from connections where time_ns > random()":                                             "random",
		"select exe collate nocase, count(*) from connections group by 1":                                       "COLLATE",
		"select count(*) from connections a, connections b where a.pid = b.pid":                                 "connections",
		"select count(*) from processes":                                                                        "connections",
		"select count(*) from connections union all select 1":                                                   "union",
		"with c as (select * from connections) select count(*) from c":                                          "with",
		"select count(*) over () from connections":                                                              "over",
		"select p.pid, count(*) from connections c join processes p using (process_id) group by c.pid":          "group by pid",
		"select count(*) from connections where exists (select 1 from gaps where from_time < connections.time)": "time",
		"select group_concat(exe) from connections":                                                             "group_concat",
		"select distinct exe from connections where pid = 1 or uid = 0":                                         "OR",
		"select count(*), \"nothing\" from connections":                                                         "nothing",
	} {
		var ran way
		r := ask.Request{SQL: sql}
		got := inOrder(t, func(out format.RowWriter) (result ask.Result, err error) {
			result, ran, err = runSQL(t.Context(), Of(tape), r, out)
			return result, err
		})
		if !strings.Contains(ran.rows, why) {
			t.Errorf("%s: by rows because %q, want %q", sql, ran.rows, why)
		}
		if want := inOrder(t, func(out format.RowWriter) (ask.Result, error) { return ask.Run(t.Context(), stock, r, out) }); got != want && !strings.Contains(sql, "random") {
			t.Errorf("%s: %.300s, want %.300s", sql, got, want)
		}
	}
}

// The statement that is advised instead of a slow one has the same answer.
func TestAdviceIsRight(t *testing.T) {
	tape := testtape.Generated(t, 800, 3)
	stock := testtape.StockOf(t, tape, input.Window{})
	if err := AttachContacts(t.Context(), tape); err != nil {
		t.Fatal(err)
	}
	for sql, advised := range map[string]bool{
		"with c as (select exe, count(*) n, sum(count) m, min(time), max(last_time) from connections group by exe) select * from c order by exe":  true,
		"with c as (select user, count(*) n from connections where time > '2026-01-01' and 5 < time_ns group by user) select * from c order by 1": true,
		"with c as (select substr(time, 1, 17) m, count(*) n from connections group by 1) select * from c":                                        false,
		"with c as (select exe, max(time), count(*) from connections group by exe) select * from c":                                               false,
		"with c as (select exe, min(time_ns), count(*) from connections group by exe) select * from c":                                            false,
		"with c as (select exe, min(last_time), count(*) from connections group by exe) select * from c":                                          false,
		"with c as (select exe, count(*) from connections where last_time > '2026' group by exe) select * from c":                                 false,
		"with c as (select exe, count(*) from connections group by exe order by time) select * from c":                                            false,
		"with c as (select exe, count(*), avg(count) from connections group by exe) select * from c":                                              false,
	} {
		advice := contactsAdvice(tape.Conn(), sql)
		if (advice != "") != advised {
			t.Errorf("%s: advice %q", sql, advice)
		}
		if _, instead, ok := strings.Cut(advice, ": "); ok {
			got := inOrder(t, func(out format.RowWriter) (ask.Result, error) {
				return RunSQL(t.Context(), tape, ask.Request{SQL: instead}, out)
			})
			want := inOrder(t, func(out format.RowWriter) (ask.Result, error) {
				return ask.Run(t.Context(), stock, ask.Request{SQL: sql}, out)
			})
			if values(got) != values(want) {
				t.Errorf("%s\n%.600s\n%.600s", instead, got, want)
			}
		}
	}
}

// values leaves the names of columns out of lines of JSON.
func values(text string) string {
	return regexp.MustCompile(`"[^"]*": `).ReplaceAllString(text, "")
}

// EXPLAIN is that of the statement which is run, and query explain says which that is.
func TestExplainsWhatIsRun(t *testing.T) {
	tape := testtape.Generated(t, 400, 3)
	for sql, want := range map[string]string{
		"select exe, count(*) from connections group by exe":                                           "way contacts",
		"select exe, pid from connections where remote_port = 22":                                      "why it lists connections",
		"select pid, time from connections":                                                            "without SQLite",
		"select a.exe, count(*) from processes a join connections b using (process_id) group by a.exe": "sum(rows)",
		"explain select 1":                "error",
		"select nothing from connections": "error",
	} {
		var text strings.Builder
		_, err := ExplainSQL(t.Context(), tape, ask.Request{SQL: sql}, ask.EachRow(func(row []format.Value) error {
			fmt.Fprintf(&text, "%s %s\n", row[0].Bytes, row[1].Bytes)
			return nil
		}))
		if err != nil {
			text.WriteString("error")
			var usage *input.UsageError
			if !errors.As(err, &usage) {
				t.Errorf("%s: %v", sql, err)
			}
		}
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s: %s", sql, text.String())
		}
	}
	got := inOrder(t, func(out format.RowWriter) (ask.Result, error) {
		return RunSQL(t.Context(), tape, ask.Request{SQL: "explain query plan select exe, count(*) from connections group by exe"}, out)
	})
	if !strings.Contains(got, "SCAN connections VIRTUAL TABLE INDEX 0:") || !strings.Contains(got, `"id"`) {
		t.Errorf("%s", got)
	}
}
