package table

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/test/testtape"
)

// Times are texts, and compared as such: whatever a person leaves out or writes otherwise, no row is lost or added.
func TestOddTimesAreTexts(t *testing.T) {
	tape := testtape.Generated(t, 3_000, 3)
	stock := testtape.StockOf(t, tape, input.Window{})
	segments := tape.Segments()
	at := segments[0].From.Add(segments[2].To.Sub(segments[0].From) * 6 / 10).UTC()
	row := ""
	if err := ask.Each(t.Context(), stock, "SELECT time FROM connections ORDER BY time_ns LIMIT 1 OFFSET 1500", func(r []format.Value) { row = string(r[0].Bytes) }); err != nil {
		t.Fatal(err)
	}
	texts := []string{row, row[:len(row)-1], row[:20], row[:19] + "," + row[20:], strings.ToLower(row), " " + row, row + " ", row + "Z", "", " ", "x", ":", "2", "20", "2026-1", "2026-10-1", "2026-1*",
		"9999-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00.000000000Z", "1969-12-31", "-1", "+2026", "é", "\x7f", at.Format("2006-01-02T15:04:05.5"), at.Format("2006-01-02T15:04:05,5"),
		at.Format("2006-01-2"), at.Format("2006-1-2"), at.Format("2006-01-02T3"), at.Format("2006-01-02 15:04"), at.Format("2006-01-02T15:4"), at.Format("2006-01-02T15:04:05+00:00"), at.Format("2006-01-02T99"), at.Format("06-01-02"),
		at.Format("2006-01"), at.Format("2006-0"), at.Format("2006-13"), at.Format("2006-01-32"), at.Format("2006-01-02T15:60:61")}
	for i, text := range texts {
		quoted, next := "'"+text+"'", "'"+texts[(i+7)%len(texts)]+"'"
		for _, where := range []string{
			"time >= " + quoted, "time > " + quoted, "time < " + quoted, "time <= " + quoted, "time = " + quoted, quoted + " <= time", "not time < " + quoted,
			"time between " + quoted + " and " + next, "time between " + next + " and " + quoted, "time in (" + quoted + ", " + next + ")", "time glob " + quoted, "time glob " + quoted + " || '*'",
			"time like " + quoted, "time like " + quoted + " || '%'", "time like '%' || " + quoted + " || '%'", "last_time >= " + quoted, "time >= cast(" + quoted + " as blob)", "time < " + quoted + " collate nocase", "time is not " + quoted,
		} {
			sameAsView(t, tape, stock, "select count(*), min(id), max(id), sum(id % 1000003) from connections where "+where)
		}
	}
	for _, value := range []string{"NULL", "0", "2026", "-1", "1e300", "x'32303236'", fmt.Sprint(at.UnixNano()), "ns('" + row + "')", "ago('1h')"} {
		for _, op := range []string{"=", "<", ">=", "is"} {
			sameAsView(t, tape, stock, "select count(*), sum(id % 1000003) from connections where time "+op+" "+value)
			sameAsView(t, tape, stock, "select count(*), sum(id % 1000003) from connections where time_ns "+op+" "+value)
			sameAsView(t, tape, stock, "select count(*), sum(id % 1000003) from connections where time_ns "+op+" cast("+value+" as text)")
		}
	}
}

// Each column of each view has the affinity that SQLite gives it in the view of a segment: what it is compared and joined
// to, sorted by and stored as is converted alike. Each column is compared with a part of the lists and values, each time
// with others, and with all of them when CONNTAPE_TEST_LONG is set.
func TestAffinityIsThatOfTheView(t *testing.T) {
	tape := testtape.Altered(t, 40, testtape.Oddities)
	stock := testtape.StockOf(t, tape, input.Window{})
	turn := 0
	skips := func() bool {
		turn++
		return turn%7 != 0 && os.Getenv("CONNTAPE_TEST_LONG") == ""
	}
	for _, view := range segment.Views {
		for _, c := range segment.ViewColumns(view) {
			column := c.Name
			var values []string
			err := ask.Each(t.Context(), stock, "SELECT DISTINCT "+column+" FROM "+view+" WHERE "+column+" IS NOT NULL ORDER BY 1 LIMIT 1", func(row []format.Value) {
				text := "'" + strings.ReplaceAll(string(row[0].AppendPlain(nil, false)), "'", "''") + "'"
				values = append(values, text, "cast("+text+" as text)", "cast("+text+" as blob)")
			})
			if err != nil {
				t.Fatal(view, column, err)
			}
			values = append(values, "cast('22' as text)", "'1'", "' 022'", "22.0", "null")
			for _, v := range values {
				for _, list := range []string{v, v + " union all select 7 union all select null", column + " from " + view + " union select " + v, "cast(" + column + " as text) from " + view, "comm from processes", "pid from processes",
					"cast(pid as text) from processes", "address from endpoints", "port from endpoints", v + " where 0"} {
					if skips() {
						continue
					}
					sameAsView(t, tape, stock, "select count(*), min("+column+") from "+view+" where "+column+" in (select "+list+")")
				}
				var counts []string
				for _, where := range []string{column + " = " + v, v + " = " + column, column + " < " + v, column + " in (" + v + ", 7, '53')", v + " in (select " + column + " from " + view + ")",
					column + " between " + v + " and 'z'", column + " is " + v, "+" + column + " = " + v, "case " + column + " when " + v + " then 1 end", column + " || '' = " + v} {
					counts = append(counts, "(select count(*) || typeof(max("+column+")) from "+view+" where "+where+")")
				}
				if !skips() {
					sameAsView(t, tape, stock, "select "+strings.Join(counts, ", "))
				}
			}
			for _, sql := range []string{
				"select typeof(" + column + "), count(*) from " + view + " group by 1",
				"with v(x) as (values ('22'), (22), (22.0), ('1'), (1), ('ipv4'), (x'3232'), (null)) select quote(x), count(*) from v join " + view + " on " + column + " = x group by 1",
				"with v(x) as (select cast(pid as text) from processes union select port from endpoints union select address from endpoints union select exe from processes) select typeof(x), count(*) from v join " + view + " on " + column + " = x group by 1",
				"select count(*) from " + view + " where " + column + " in (select " + column + " from " + view + ")",
				"select count(*) from " + view + " a join (select distinct " + column + " as x from " + view + ") b on a." + column + " = b.x",
			} {
				sameAsView(t, tape, stock, sql)
			}
			sameInOrder(t, tape, stock, "select "+column+" from "+view+" order by "+column)
			sameInOrder(t, tape, stock, "select "+column+" from "+view+" order by "+column+" desc limit 20")
			sameInOrder(t, tape, stock, "select "+column+" from "+view+" union select '22' union select 22 order by 1")
		}
	}
	for _, sql := range []string{
		"select count(*) from connections where remote_port = cast('22' as text)", "select count(*) from connections where count = '1'", "select count(*) from connections where pid = '123'",
		"select count(*) from connections c join connections d on c.user = d.uid and c.id < d.id", "select count(*) from connections c join processes p on c.cmdline = p.pid or c.exe = p.exe and c.pid = p.pid || ''",
		"select count(*) from connections c join endpoints e on c.remote_port = cast(e.port as text) and c.remote_address = e.address",
	} {
		sameAsView(t, tape, stock, sql)
	}
}

// A text with a NUL is a text like any other.
func TestNULInText(t *testing.T) {
	tape := testtape.Altered(t, 600, `UPDATE process SET exe = 'a' || char(0) || 'b' WHERE id % 3 = 0; UPDATE task SET comm = char(0) WHERE id % 2 = 0;`)
	stock := testtape.StockOf(t, tape, input.Window{})
	for _, where := range []string{"exe = char(0)", "exe = 'a' || char(0) || 'b'", "exe = 'a'", "comm = char(0)", "comm in (char(0), 'sshd')", "comm > char(0)", "remote_ip = char(0)", "time > char(0)", "exe = 'it''s' || char(0)", "outcome = char(0)"} {
		sameAsView(t, tape, stock, "select count(*), min(id), max(hex(exe)) from connections where "+where)
	}
	sameAsView(t, tape, stock, "select count(*) from processes where exe = char(0) or exe = 'a' || char(0) || 'b'")
}

// A table expression of the asker has the rows that he gives it, whatever its name; the views keep theirs unless he gives
// his table the name of one, and then main.connections is still the view.
func TestNamesOfTableExpressions(t *testing.T) {
	tape := testtape.Generated(t, 600, 3)
	stock := testtape.StockOf(t, tape, input.Window{})
	views := segment.Views
	for _, name := range append(slices.Clone(views), "connection_rows", "rows", "contact", "place", "family", "by_remote", "by_process", "connection", "process", "task", "shape", "endpoint", "clock", "segment", "repeat", "known", "touched") {
		questions := []string{
			"with %s as (select 1 as pid, 2 as remote_port) select count(*), max(pid), max(remote_port) from %[1]s",
			"with %s(pid) as (select 1) select (select max(pid) from %[1]s), count(*), max(a.pid) from main.connections a where exe <> 'x' and remote_port = 443",
			"with %s as (select * from main.connections where remote_port = 443) select exe, count(*) from %[1]s group by 1",
			"with %s as not materialized (select * from main.connections) select time, exe from %[1]s where remote_port = 443 order by time_ns",
			"select count(*) from main.connections as %s where %[1]s.remote_port = 443",
		}
		if !slices.Contains(views, name) {
			questions = append(questions,
				"with %s as (select 1 as pid, 'x' as exe) select count(*), max(connections.pid) from connections where remote_port = 443",
				"with %s as (select 1 as pid, 'x' as exe) select count(*), max(processes.pid) from processes",
				"with %s as (select 1 as pid) select time, exe from connections order by time_ns",
				"with recursive %s(n) as (select 1 union all select n + 1 from %[1]s where n < 4) select n, (select count(*) from endpoints), (select count(*) from connections where time_ns > n) from %[1]s",
				"with %s as (select * from connections where remote_port = 443) select exe, count(*) from %[1]s group by 1")
		}
		for _, sql := range questions {
			sameAsView(t, tape, stock, fmt.Sprintf(sql, name))
		}
	}
	if _, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
		return RunSQL(t.Context(), tape, ask.Request{SQL: "select * from connection_rows"}, out)
	}); err == nil {
		t.Error("connection_rows is a table of the tape")
	}
}
