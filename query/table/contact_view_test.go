package table

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
	"zombiezen.com/go/sqlite"
)

// contactsOf is contacts as SQL over the rows of connections: a row for each combination of the columns. %s is the condition on
// the connections, and what they are grouped by.
const contactsOf = `(SELECT %[1]s, sum(count) AS connects, count(*) AS rows, min(time) AS first_time, max(last_time) AS last_time,
	sum(bytes_sent) AS bytes_sent, sum(bytes_received) AS bytes_received
	FROM connections WHERE %[2]s GROUP BY %[1]s)`

// sameAsGrouped asks SQL of contacts, and of the rows of connections grouped by the columns. In it CONTACTS is the table,
// and WHEN a condition on the time.
func sameAsGrouped(t *testing.T, tape *store.Tape, stock *sqlite.Conn, columns, when, sql string) {
	t.Helper()
	of := "contacts"
	if when != "" {
		traffic := ""
		if strings.Contains(sql, "bytes") {
			traffic = ", bytes_sent, bytes_received"
		}
		of = "(SELECT " + columns + ", connects, rows, first_time, last_time" + traffic + " FROM contacts WHERE " + when + ")"
	} else {
		when = "1"
	}
	asked := strings.ReplaceAll(sql, "CONTACTS", of)
	got, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
		return RunSQL(t.Context(), tape, ask.Request{SQL: asked}, out)
	})
	if err != nil {
		t.Errorf("%s: %v", asked, err)
	}
	meant := strings.ReplaceAll(sql, "CONTACTS", fmt.Sprintf(contactsOf, columns, when))
	want, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
		return ask.Run(t.Context(), stock, ask.Request{SQL: meant}, out)
	})
	if err != nil {
		t.Errorf("%s: %v", meant, err)
	}
	if got != want {
		t.Errorf("%s\ncontacts %s\nrows     %s", asked, ask.Shorten(strings.ReplaceAll(got, "\n", " / "), 2000), ask.Shorten(strings.ReplaceAll(want, "\n", " / "), 2000))
	}
}

// Whatever is asked of contacts is what the rows of connections say, grouped by the columns that the statement uses.
func TestContactsAreGroupedConnections(t *testing.T) {
	tape := testtape.Generated(t, 4000, 3)
	stock := testtape.StockOf(t, tape, input.Window{})
	var middle time.Time
	err := ask.Each(t.Context(), stock, "SELECT time_ns FROM connections ORDER BY 1 LIMIT 1 OFFSET 2000", func(row []format.Value) { middle = time.Unix(0, row[0].Int) })
	if err != nil {
		t.Fatal(err)
	}
	at, ns := middle.UTC().Format("2006-01-02T15:04:05"), fmt.Sprint(middle.UnixNano())
	whens := []string{"", "time > '" + at + "'", "time >= '" + at + "Z' AND time_ns < " + ns, "time BETWEEN '" + at[:13] + "' AND '" + at[:14] + "59'", "time_ns <= " + ns + " AND time_ns >= " + ns[:3] + "0000000000000000",
		"time < '1969'", "time > '9'", "time_ns > NULL", "time = (SELECT max(time) FROM connections)", "time >= (SELECT min(time) FROM connections) AND exe IS NOT NULL"}
	for _, q := range []struct{ columns, sql string }{
		{"exe", "SELECT exe, sum(connects), sum(rows), min(first_time), max(last_time) FROM CONTACTS GROUP BY exe"},
		{"exe", "SELECT * FROM (SELECT exe, connects, rows, first_time, last_time FROM CONTACTS)"},
		{"exe", "SELECT exe, typeof(connects), typeof(rows), typeof(first_time) FROM CONTACTS ORDER BY connects DESC, exe LIMIT 3"},
		{"user, exe", "SELECT user, count(DISTINCT exe), sum(connects) FROM CONTACTS GROUP BY user HAVING sum(connects) > 3"},
		{"remote_port", "SELECT remote_port, connects, rows FROM CONTACTS"},
		{"remote_port, outcome", "SELECT remote_port, outcome, connects FROM CONTACTS"},
		{"outcome, type", "SELECT outcome, type, sum(connects) FROM CONTACTS GROUP BY 1, 2"},
		{"remote_address, exe", "SELECT remote_address, sum(connects) n FROM CONTACTS WHERE exe LIKE '%curl' GROUP BY 1"},
		{"remote_address, exe", "SELECT count(DISTINCT remote_address) FROM CONTACTS WHERE exe GLOB '/usr/*' AND remote_address LIKE '10.%'"},
		{"remote_ip, remote_port", "SELECT remote_ip, sum(connects) FROM CONTACTS WHERE remote_port IN (22, 443) GROUP BY 1"},
		{"remote_ip, remote_port", "SELECT remote_ip, remote_port, connects FROM CONTACTS WHERE remote_ip IN (SELECT remote_ip FROM connections WHERE remote_port = 22) OR remote_port = 53"},
		{"remote_ip, remote_port", "SELECT remote_ip, connects FROM CONTACTS WHERE remote_ip = '198.51.100.66' OR remote_port = 443"},
		{"exe, uid, remote_port", "SELECT exe, connects FROM CONTACTS WHERE exe IN ('/usr/bin/curl', '/usr/sbin/nginx') OR uid = 0 OR remote_port IN (443, 53)"},
		{"remote_address, remote_port, pid", "SELECT DISTINCT pid FROM CONTACTS WHERE remote_address = '198.51.100.66' OR remote_port = 22 OR pid = 1"},
		{"process_id, remote_address", "SELECT p.exe, sum(c.connects), count(DISTINCT c.remote_address) FROM CONTACTS c JOIN (SELECT DISTINCT process_id, exe FROM processes) p ON p.process_id = c.process_id GROUP BY 1"},
		{"container, exe", "SELECT container, exe, sum(connects) FROM CONTACTS WHERE container IS NOT NULL GROUP BY 1, 2"},
		{"segment", "SELECT segment, connects, rows FROM CONTACTS"},
		{"segment, cmdline, ancestry, remote_raw, family", "SELECT segment, cmdline, ancestry, remote_raw, family, connects, first_time FROM CONTACTS"},
		{"exe", "SELECT exe, sum(connects) OVER (ORDER BY exe) FROM CONTACTS"},
		{"exe, comm", "SELECT a.exe, a.connects, b.comm FROM CONTACTS a JOIN CONTACTS b ON a.exe = b.exe AND a.comm < b.comm"},
	} {
		for _, when := range whens {
			sameAsGrouped(t, tape, stock, q.columns, strings.ReplaceAll(when, "AND exe IS NOT NULL", ""), q.sql)
		}
	}
	w := input.Window{Since: middle}
	tape.Bound(w.Since, w.Until)
	narrowed := testtape.StockOf(t, tape, w)
	sameAsGrouped(t, tape, narrowed, "exe", "", "SELECT exe, connects, rows, first_time FROM CONTACTS")
	got, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
		return RunSQL(t.Context(), tape, ask.Request{SQL: "SELECT connects, rows FROM contacts"}, out)
	})
	want, wantErr := answer(t, func(out format.RowWriter) (ask.Result, error) {
		return ask.Run(t.Context(), narrowed, ask.Request{SQL: "SELECT sum(count) connects, count(*) rows FROM connections"}, out)
	})
	if err != nil || wantErr != nil || got != want {
		t.Errorf("no column: %q, want %q: %v %v", got, want, err, wantErr)
	}
}

// Bytes are those of each connection's last outcome, wherever it was told, in one piece and in many.
func TestBytesOfContacts(t *testing.T) {
	tape := testtape.Altered(t, 6000, testtape.Oddities)
	stock := testtape.StockOf(t, tape, input.Window{})
	known, middle := "", ""
	err := ask.Each(t.Context(), stock, "SELECT count(bytes_sent), (SELECT time_ns FROM connections ORDER BY 1 LIMIT 1 OFFSET 3000) FROM connections", func(row []format.Value) {
		known, middle = fmt.Sprint(row[0].Int), fmt.Sprint(row[1].Int)
	})
	if err != nil || known == "0" {
		t.Fatalf("%s connections have bytes, %v", known, err)
	}
	for _, q := range []struct{ columns, sql string }{
		{"exe", "SELECT exe, connects, bytes_sent, bytes_received FROM CONTACTS"},
		{"exe, remote_ip", "SELECT exe, remote_ip, bytes_sent FROM CONTACTS ORDER BY bytes_sent DESC, exe, remote_ip LIMIT 20"},
		{"remote_port, outcome", "SELECT outcome, sum(bytes_received), typeof(sum(bytes_sent)) FROM CONTACTS WHERE remote_port > 100 GROUP BY 1"},
		{"process_id", "SELECT sum(bytes_sent), sum(bytes_received), sum(connects) FROM CONTACTS WHERE process_id IN (SELECT process_id FROM processes)"},
	} {
		for _, when := range []string{"", "time_ns > " + middle} {
			sameAsGrouped(t, tape, stock, q.columns, when, q.sql)
		}
	}
}

// What contacts cannot answer as it is meant is refused, and it is said what to ask.
func TestContactsRefuse(t *testing.T) {
	tape := testtape.Generated(t, 400, 3)
	for sql, want := range map[string]string{
		"SELECT count(*) FROM contacts":                                                    "sum(connects)",
		"SELECT exe, count(pid) FROM contacts GROUP BY exe":                                "sum(connects)",
		"SELECT avg(connects) FROM contacts":                                               "sum(connects)",
		"SELECT sum(DISTINCT connects) FROM contacts":                                      "sum(connects)",
		"SELECT exe FROM contacts WHERE connects > 5":                                      "HAVING",
		"SELECT exe FROM contacts WHERE first_time > '2026'":                               "HAVING",
		"SELECT exe FROM contacts WHERE last_time LIKE '2026%'":                            "HAVING",
		"SELECT exe FROM contacts WHERE bytes_sent > 10":                                   "HAVING",
		"SELECT exe, duration_ns FROM contacts":                                            "a column of connections",
		"SELECT a.exe FROM contacts a JOIN contacts b ON a.connects = b.connects":          "HAVING",
		"SELECT time FROM contacts":                                                        "first_time",
		"SELECT exe, min(time_ns) FROM contacts GROUP BY exe":                              "first_time",
		"SELECT exe FROM contacts WHERE time LIKE '2026%'":                                 "BETWEEN",
		"SELECT exe FROM contacts WHERE NOT time > '2026' AND substr(time, 1, 4) = '2026'": "",
		"SELECT exe FROM contacts WHERE time_ns + 0 > 5":                                   "",
		"SELECT exe FROM contacts WHERE time > '2026' OR exe = '/usr/bin/curl'":            "",
		"SELECT exe FROM contacts WHERE time_ns IN (1, 2)":                                 "BETWEEN",
		"SELECT exe FROM contacts WHERE time_ns > 1.5":                                     "BETWEEN",
		"SELECT exe FROM contacts WHERE (time > '2026' AND uid = 0) OR exe LIKE '%'":       "UNION ALL",
	} {
		out, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
			return RunSQL(t.Context(), tape, ask.Request{SQL: sql}, out)
		})
		hint := ""
		var h interface{ HintText() string }
		if errors.As(err, &h) {
			hint = h.HintText()
		}
		if err == nil || !strings.Contains(hint, want) {
			t.Errorf("%s: %v, hint %q: %.200s", sql, err, hint, out)
		}
	}
	for _, sql := range []string{
		"SELECT count(DISTINCT exe), sum(connects), total(connects) FROM contacts", "WITH contacts AS (SELECT 1 AS x) SELECT count(*) FROM contacts",
		"SELECT 'count(*) of contacts' FROM connections LIMIT 1", "SELECT count(*) FROM connections -- contacts",
	} {
		if _, err := answer(t, func(out format.RowWriter) (ask.Result, error) {
			return RunSQL(t.Context(), tape, ask.Request{SQL: sql}, out)
		}); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
