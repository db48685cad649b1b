package main

import (
	"strings"
	"time"
)

// question is one question for conntape and DuckDB.
type question struct {
	name   string
	words  string // arguments of conntape, separated by |
	budget time.Duration
	duck   string // the same question in DuckDB; "": none
	rows   bool   // measured in rows a second
}

// flatSQL selects the columns of DuckDB's copy.
const flatSQL = "select time_ns, process_id, pid, exe, cmdline, user, container, remote_address, remote_port, outcome, count from connections"

// ownSQL returns the arguments for a user's SQL.
func ownSQL(text string) string { return "query|sql|" + text }

// questions returns the questions of the table with their budgets.
func questions(indicators, since string) []question {
	return []question{
		{"query list", "query|list", 30 * time.Millisecond, "", false},
		{"who ADDRESS", "query|who|45.155.205.233", 100 * time.Millisecond,
			"select min(time_ns), max(time_ns), count(*), pid, exe, remote_port, outcome from c where remote_address = '45.155.205.233' group by all", false},
		{"who CIDR/24", "query|who|10.9.8.0/24", 100 * time.Millisecond,
			"select min(time_ns), max(time_ns), count(*), pid, exe, remote_address, remote_port, outcome from c where remote_address like '10.9.8.%' group by all", false},
		{"recent", "query|recent", 100 * time.Millisecond, "select * from c order by time_ns desc limit 50", false},
		{"gaps", "query|gaps", 100 * time.Millisecond, "", false},
		{"tree of the beacon", "query|tree|10057", 100 * time.Millisecond, "", false},
		{"tree of the scanner, below two daemons", "query|tree|10070", 100 * time.Millisecond, "", false},
		{"top", "query|top", 500 * time.Millisecond,
			"select exe, count(*) n, count(distinct (remote_address, remote_port)) from c group by exe order by n desc limit 20", false},
		{"top destination", "query|top|destination", 500 * time.Millisecond,
			"select remote_address, remote_port, count(*) n, count(distinct exe) from c group by all order by n desc limit 20", false},
		{"timeline", "query|timeline", 500 * time.Millisecond,
			"select time_ns // 3600000000000 h, count(*), count(distinct exe), count(distinct (remote_address, remote_port)) from c group by h order by h", false},
		{"first-seen", "query|first-seen|destination|--since|" + since, 500 * time.Millisecond,
			"select remote_address, remote_port, min(time_ns) f, count(*) from c group by all having f >= epoch_ns(timestamp '" + strings.TrimSuffix(since, "Z") + "')", false},
		{"rare", "query|rare", 500 * time.Millisecond,
			"select remote_address, remote_port, count(*) n, min(exe) from c group by all having n <= 3 and count(distinct exe) = 1", false},
		{"beacons", "query|beacons", 3 * time.Second,
			`with g as (select exe, "user", container, remote_address, remote_port, time_ns - lag(time_ns) over (partition by exe, "user", container, remote_address, remote_port order by time_ns) gap from c),
			q as (select exe, "user", container, remote_address, remote_port, count(*) n, quantile_disc(gap, [0.25, 0.5, 0.75]) q from g where gap is not null group by all having n >= 5)
			select * from q`, false},
		{"fanout", "query|fanout", 3 * time.Second,
			"select process_id, time_ns // 30000000000 slot, count(distinct remote_address) a, count(distinct remote_port) from c group by all having a >= 20", false},
		{"SQL: connects by program", ownSQL("select exe, sum(connects) from contacts group by exe"), 300 * time.Millisecond,
			"select exe, sum(count) from c group by exe", false},
		{"SQL: connects by user", ownSQL("select user, sum(connects) from contacts group by user"), 300 * time.Millisecond,
			`select "user", sum(count) from c group by all`, false},
		{"SQL: the 20 addresses met most", ownSQL("select remote_address, sum(connects) n from contacts group by 1 order by n desc limit 20"), 300 * time.Millisecond,
			"select remote_address, sum(count) n from c group by all order by n desc limit 20", false},
		{"SQL: connects by port", ownSQL("select remote_port, sum(connects) from contacts group by 1"), 300 * time.Millisecond,
			"select remote_port, sum(count) from c group by all", false},
		{"SQL: connects by outcome", ownSQL("select outcome, sum(connects) from contacts group by 1"), 300 * time.Millisecond,
			"select outcome, sum(count) from c group by all", false},
		{"SQL: addresses of each program", ownSQL("select exe, count(distinct remote_address) from contacts group by exe"), time.Second,
			"select exe, count(distinct remote_address) from c group by exe", false},
		{"SQL: command lines LIKE", ownSQL("select sum(connects) from contacts where cmdline like '%config%'"), 300 * time.Millisecond,
			"select sum(count) from c where cmdline like '%config%'", false},
		{"SQL: port 22 by program and user", ownSQL("select exe, user, sum(connects) from contacts where remote_port = 22 group by 1, 2"), 300 * time.Millisecond,
			`select exe, "user", sum(count) from c where remote_port = 22 group by all`, false},
		{"SQL: how many", ownSQL("select count(*) from connections"), 50 * time.Millisecond, "select count(*) from c", false},
		{"SQL: sum, first and last time", ownSQL("select sum(count), min(time), max(time) from connections"), 100 * time.Millisecond,
			"select sum(count), min(time_ns), max(time_ns) from c", false},
		{"SQL: rows by program", ownSQL("select exe, count(*) from connections group by exe"), 300 * time.Millisecond,
			"select exe, count(*) from c group by exe", false},
		{"SQL: addresses of each process", ownSQL("select process_id, count(distinct remote_address) from connections group by 1"), time.Second,
			"select process_id, count(distinct remote_address) from c group by 1", false},
		{"SQL: address IN (SELECT)", ownSQL("select count(*) from connections where remote_address in (select remote_address from connections where exe like '%curl')"), 500 * time.Millisecond,
			"select count(*) from c where remote_address in (select remote_address from c where exe like '%curl')", false},
		{"SQL: process IN (SELECT)", ownSQL("select count(*) from connections where process_id in (select process_id from processes where uid = 0)"), 500 * time.Millisecond, "", false},
		{"SQL: joined with processes", ownSQL("select c.exe, source, count(*) from connections c join processes p on p.process_id = c.process_id and p.segment = c.segment group by c.exe, source"), time.Second, "", false},
		{"SQL: users and programs", ownSQL("select distinct user, exe from connections"), 300 * time.Millisecond, `select distinct "user", exe from c`, false},
		{"SQL: the newest 50", ownSQL("select * from connections order by time_ns desc limit 50"), 100 * time.Millisecond, "select * from c order by time_ns desc limit 50", false},
		{"SQL: the 20 that stand for most", ownSQL("select time, exe, count from connections order by count desc limit 20"), 500 * time.Millisecond,
			"select time_ns, exe, count from c order by count desc limit 20", false},
		{"SQL: by hour", ownSQL("select substr(time, 1, 13) h, count(*) from connections group by h"), 500 * time.Millisecond,
			"select time_ns // 3600000000000 h, count(*) from c group by h", false},
		{"match, 100,000 indicators", "query|match|--indicators|" + indicators, time.Second,
			"select count(*), min(time_ns), exe, remote_address from c join i on c.remote_address = i.address group by all", false},
		{"export of a day to CSV, 44 columns", "export|--since|" + since + "|--output|OUTPUT", 0, "", true},
		{"the same, 11 columns", "query|sql|" + flatSQL + "|--since|" + since + "|--output|OUTPUT", 0,
			"copy (select * from c where time_ns >= epoch_ns(timestamp '" + strings.TrimSuffix(since, "Z") + "')) to 'OUTPUT' (header)", true},
	}
}
