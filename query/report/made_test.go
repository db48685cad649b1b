package report

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/test/testtape"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// What plans and narrowed questions answer of such a tape is what their SQL does.
func TestPlansOfOddTape(t *testing.T) {
	tape := testtape.Altered(t, 6_000, testtape.Oddities)
	stock := testtape.StockOf(t, tape, input.Window{})
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	since := input.Window{Since: tape.Segments()[1].From}
	for _, c := range library {
		variants := variantsOf(c)
		if c.Name == "who" {
			variants = append(variants, map[string]string{"indicator": "docker.sock"}, map[string]string{"indicator": "run/docker.sock"})
		}
		for _, given := range variants {
			w := input.Window{}
			if c.OwnWindow {
				w = since
			}
			compareWithSQL(t, tape, stock, c, given, w)
		}
	}
}

// A user without a name is a number, and another than the user whose name it is.
func TestTopTellsUsersApart(t *testing.T) {
	tape := testtape.Altered(t, 3_000, `UPDATE process SET user = NULL; UPDATE task SET uid = 1000, user = CASE id % 2 WHEN 0 THEN NULL ELSE '1000' END;`)
	c := cannedNamed(t, "top")
	params, err := c.Bind(map[string]string{"what": "user"}, input.Clock{}, input.Window{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[format.Kind]int)
	_, err = NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, input.Window{}).Run(t.Context(), ask.EachRow(func(row []format.Value) error {
		kinds[row[0].Kind]++
		return nil
	}))
	if err != nil || kinds[format.Integer] != 1 || kinds[format.Text] != 1 {
		t.Errorf("%v, %v", kinds, err)
	}
}

// Numbers are rounded as SQLite rounds them, exact ties too.
func TestRoundedLikeSQLite(t *testing.T) {
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for n := range 4001 {
		f := float64(n) / 16
		for _, digits := range []int{1, 3} {
			want, err := sqlitex.ResultFloat(conn.Prep(fmt.Sprintf("SELECT round(%v / 16.0, %d)", n, digits)))
			if err != nil || rounded(f, digits) != want {
				t.Errorf("%v to %d is %v, want %v, %v", f, digits, rounded(f, digits), want, err)
			}
		}
	}
}

// A program whose connects are all hidden is found all the same, and a UNIX socket whose path looks like an address is none.
func TestMatchOfHiddenKinds(t *testing.T) {
	tape := testtape.Altered(t, 3_000, `UPDATE shape SET type = 2; UPDATE endpoint SET port = 0 WHERE family IN (2, 10);
		UPDATE OR IGNORE endpoint SET family = 1, port = -1, address = '10.9.9.9' WHERE id = (SELECT max(id) FROM endpoint);`)
	exe := ""
	if err := ask.Each(t.Context(), testtape.StockOf(t, tape, input.Window{}), `SELECT exe FROM connections WHERE type = 'dgram' AND remote_port = 0 AND exe NOT IN (SELECT exe FROM connections WHERE family = 'unix' AND exe IS NOT NULL) LIMIT 1`,
		func(row []format.Value) { exe = string(row[0].Bytes) }); err != nil || exe == "" {
		t.Fatal(exe, err)
	}
	for list, least := range map[string]int{exe: 1, "10.9.9.9": 0, "10.9.9.0/24": 0} {
		set, err := indicator.Read(strings.NewReader(list + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, view := range []*table.KnownView{table.NewKnownView(), nil} {
			rows := 0
			_, err = match(t.Context(), table.Of(tape), view, &set.Set, MatchRequest{}, ask.EachRow(func([]format.Value) error { rows++; return nil }))
			if err != nil || cmp.Compare(rows, 0) != least {
				t.Errorf("%s: %d rows, %v", list, rows, err)
			}
		}
	}
}

// Query who takes whatever column remote shows, and says what is wrong with a word that is nothing of the kind.
func TestWhoTakesWhatIsShown(t *testing.T) {
	tape := testtape.Altered(t, 3_000, testtape.Oddities)
	c := cannedNamed(t, "who")
	asking := func(indicator string) (rows int, err error) {
		params, err := c.Bind(map[string]string{"indicator": indicator, "all": "true"}, input.Clock{}, input.Window{})
		if err != nil {
			return 0, err
		}
		_, err = NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, input.Window{}).Run(t.Context(), ask.EachRow(func([]format.Value) error { rows++; return nil }))
		return rows, err
	}
	shown := make(map[string]bool)
	err := ask.Each(t.Context(), testtape.StockOf(t, tape, input.Window{}), `SELECT DISTINCT CASE WHEN remote_port IS NULL THEN remote_address WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
		ELSE coalesce(remote_ip, remote_address) || ':' || remote_port END FROM connections WHERE family IN ('ipv4', 'ipv6', 'unix') AND remote_address <> '10.0.0.1' LIMIT 60`, func(row []format.Value) { shown[string(row[0].Bytes)] = true })
	if err != nil || len(shown) < 15 {
		t.Fatal(len(shown), err)
	}
	for remote := range shown {
		if rows, err := asking(remote); rows == 0 || err != nil {
			t.Errorf("%s: %d rows, %v", remote, rows, err)
		}
	}
	for indicator, want := range map[string]string{
		"": "is empty", " ": "is empty", "evil!example": "is no address", "nginx": "is no address", "10.0.0.0/99": "neither an address nor a CIDR", "99999": "no port", "0": "no port",
		"https://evil.example/": "is a URL", "[x:]": "no address", "10.0.0.300": "is no address",
	} {
		rows, err := asking(indicator)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SQL") || rows > 0 {
			t.Errorf("%q: %d rows, %v", indicator, rows, err)
		}
	}
}

// A connect that was sent elsewhere is found by what it asked for, as by where it went, and once.
func TestFoundByWhatWasAskedFor(t *testing.T) {
	tape := testtape.Altered(t, 4_000, testtape.SentElsewhere)
	stock := testtape.StockOf(t, tape, input.Window{})
	type asked struct {
		address string
		port, n int64
	}
	var all []asked
	err := ask.Each(t.Context(), stock, `SELECT requested_address, requested_port, sum(count) FROM connections WHERE requested_address IS NOT NULL AND type <> 'dgram' GROUP BY 1, 2 LIMIT 5`,
		func(row []format.Value) { all = append(all, asked{string(row[0].Bytes), row[1].Int, row[2].Int}) })
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	c := cannedNamed(t, "who")
	for _, a := range all {
		place := netip.AddrPortFrom(netip.MustParseAddr(a.address), uint16(a.port)).String()
		var want int64
		if err := ask.Each(t.Context(), stock, `SELECT sum(count) FROM connections WHERE requested_address = :p1 AND requested_port = :p2 OR remote_address IN (:p1, '::ffff:' || :p1) AND remote_port = :p2`,
			func(row []format.Value) { want = row[0].Int }, format.TextValue(a.address), format.IntValue(a.port)); err != nil || want < a.n {
			t.Fatal(want, a, err)
		}
		params, err := c.Bind(map[string]string{"indicator": place, "all": "true"}, input.Clock{}, input.Window{})
		if err != nil {
			t.Fatal(err)
		}
		var got int64
		_, err = NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, input.Window{}).Run(t.Context(), ask.EachRow(func(row []format.Value) error { got += row[2].Int; return nil }))
		if err != nil || got != want {
			t.Errorf("who %s: %d connects, want %d, %v", place, got, want, err)
		}
		for _, to := range []string{place, a.address, a.address + "/31"} {
			request, err := Filter{To: to}.Apply(ask.Request{SQL: `SELECT coalesce(sum(count), 0) FROM connections WHERE requested_address = '` + a.address + `' AND requested_port = ` + fmt.Sprint(a.port)})
			if err != nil {
				t.Fatal(err)
			}
			filtered := int64(0)
			if _, err := table.RunSQL(t.Context(), tape, request, ask.EachRow(func(row []format.Value) error { filtered = row[0].Int; return nil })); err != nil || filtered < a.n {
				t.Errorf("--to %s: %d connects, want %d, %v", to, filtered, a.n, err)
			}
		}
		set, err := indicator.Read(strings.NewReader(place + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, view := range []*table.KnownView{table.NewKnownView(), nil} {
			matched := int64(0)
			_, err = match(t.Context(), table.Of(tape), view, &set.Set, MatchRequest{All: true}, ask.EachRow(func(row []format.Value) error { matched += row[2].Int; return nil }))
			if err != nil || matched != want {
				t.Errorf("match %s: %d connects, want %d, %v", place, matched, want, err)
			}
		}
	}
}

// What a program of a cgroup sent to an agent or to a proxy is found by what was asked for, and by its port.
func TestSentToAnAgent(t *testing.T) {
	tape := testtape.Altered(t, 3_000, `UPDATE endpoint SET requested = 0;
		INSERT INTO endpoint (id, family, port, address, raw, requested) VALUES (900001, 2, 80, '169.254.169.254', x'', 0), (900002, 10, 2379, '::ffff:10.99.0.7', x'', 0);
		UPDATE OR IGNORE endpoint SET family = 2, port = 19999, address = '127.0.0.2', requested = 900001 WHERE id = (SELECT remote FROM connection ORDER BY id LIMIT 1);
		UPDATE OR IGNORE endpoint SET family = 10, port = 15001, address = '::ffff:127.0.0.1', requested = 900002 WHERE id = (SELECT remote FROM connection WHERE remote <> (SELECT remote FROM connection ORDER BY id LIMIT 1) ORDER BY id LIMIT 1);`)
	stock := testtape.StockOf(t, tape, input.Window{})
	for name, place := range map[string]struct{ column, value, sql string }{
		"metadata": {"requested", "169.254.169.254:80", "requested_address = '169.254.169.254'"},
		"lateral":  {"example", "10.99.0.7 2379", "requested_port = 2379"},
	} {
		var want, got int64
		if err := ask.Each(t.Context(), stock, `SELECT sum(count) FROM connections WHERE NOT (type = 'dgram' AND remote_port IS 0) AND `+place.sql, func(row []format.Value) { want = row[0].Int }); err != nil || want == 0 {
			t.Fatal(name, want, err)
		}
		for _, row := range askCanned(t, tape, name) {
			if row[place.column] == place.value {
				n, err := strconv.ParseInt(row["n"], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		}
		if got != want {
			t.Errorf("%s: %d connects, want %d", name, got, want)
		}
	}
	for _, port := range []string{"80", "2379", "15001"} {
		request, err := Filter{Port: port}.Apply(ask.Request{SQL: `SELECT sum(count) FROM connections`})
		if err != nil {
			t.Fatal(err)
		}
		var want, got int64
		if err := ask.Each(t.Context(), stock, `SELECT sum(count) FROM connections WHERE `+port+` IN (remote_port, requested_port)`, func(row []format.Value) { want = row[0].Int }); err != nil || want == 0 {
			t.Fatal(port, want, err)
		}
		if _, err := table.RunSQL(t.Context(), tape, request, ask.EachRow(func(row []format.Value) error { got = row[0].Int; return nil })); err != nil || got != want {
			t.Errorf("--port %s: %d connects, want %d, %v", port, got, want, err)
		}
	}
}

// Query sockets knows docker.sock by a relative path too, and resolves it.
func TestSocketsByRelativePaths(t *testing.T) {
	tape := testtape.Altered(t, 3_000, testtape.Oddities+`UPDATE process SET cwd = '/srv/lxd'; UPDATE OR IGNORE endpoint SET address = 'unix.socket' WHERE address = 'docker.sock' AND %[1]d = 1;`)
	seen := make(map[string]bool)
	for _, row := range askCanned(t, tape, "sockets") {
		seen[row["remote"]+" "+row["power"]] = true
	}
	for _, want := range []string{"/srv/lxd/docker.sock root through Docker", "/srv/lxd/run/docker.sock root through Docker", "/srv/lxd/unix.socket root through LXD"} {
		if !seen[want] {
			t.Errorf("%s is missing of %v", want, seen)
		}
	}
}

// EISCONN is no failure, and what is tried in vain by every program is a row of its own at the end.
func TestFailedFoldsTheUsual(t *testing.T) {
	tape := testtape.Altered(t, 3_000, `UPDATE shape SET errno = CASE id % 3 WHEN 0 THEN 106 WHEN 1 THEN 2 ELSE 111 END, hook_errno = 0;
		UPDATE OR IGNORE endpoint SET family = 1, port = -1, address = '/var/run/nscd/socket' WHERE id = (SELECT remote FROM connection GROUP BY remote ORDER BY count(*) DESC LIMIT 1);`)
	rows := askCanned(t, tape, "failed")
	folded := 0
	for _, row := range rows {
		if row["errno"] == "106" {
			t.Errorf("%v", row)
		}
		if row["remote"] == "/var/run/nscd/socket" && row["errno"] == "2" {
			folded++
		}
	}
	if last := rows[len(rows)-1]; folded != 1 || last["remote"] != "/var/run/nscd/socket" || !strings.HasSuffix(last["exe"], " programs") {
		t.Errorf("%d rows, the last is %v", folded, last)
	}
}

// Without all, a canned query leaves out name probes and disconnects, and nothing else: an endpoint of a family that is not
// known, or has no name, is no less of interest.
func TestUnknownFamiliesAreShown(t *testing.T) {
	tape := testtape.Altered(t, 6_000, testtape.Oddities+`UPDATE endpoint SET family = 65535 WHERE id % 5 = 0; UPDATE OR IGNORE endpoint SET family = 65535, port = -1, address = '0x' || id WHERE id % 11 = 0;
		UPDATE OR IGNORE endpoint SET family = 0, port = -1, address = '' WHERE id % 13 = 0; UPDATE endpoint SET family = 99 WHERE id % 17 = 0; UPDATE OR IGNORE endpoint SET port = 0 WHERE id % 4 = 0; UPDATE shape SET type = CASE id % 5 WHEN 0 THEN 77 WHEN 1 THEN 1 ELSE 2 END;`)
	const unknown, hidden = "family IS NULL", "coalesce(family = 'unspec', 0) OR coalesce(type = 'dgram' AND remote_port = 0, 0)"
	stock := testtape.StockOf(t, tape, input.Window{})
	for what, sql := range map[string]string{"of no known family": unknown, "hidden": hidden} {
		n := int64(0)
		if err := ask.Each(t.Context(), stock, "SELECT count(*) FROM connections WHERE "+sql, func(row []format.Value) { n = row[0].Int }); err != nil || n < 100 {
			t.Fatalf("%d %s, %v", n, what, err)
		}
	}
	if err := sqlitex.ExecuteScript(stock, "DELETE FROM all_connections WHERE "+hidden, nil); err != nil {
		t.Fatal(err)
	}
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, c := range library {
		if !c.Has("all") {
			continue
		}
		w := input.Window{}
		if c.OwnWindow {
			w.Since = tape.Segments()[1].From
		}
		for _, given := range variantsOf(c) {
			answer := func(all string, asking func(ask.Request, format.RowWriter) (ask.Result, error)) string {
				given = maps.Clone(given)
				given["all"] = all
				params, err := c.Bind(given, input.Clock{Now: time.Unix(0, 0)}, w)
				if err != nil {
					t.Fatal(err)
				}
				return testtape.CSVOf(t, c.Name, func(out format.RowWriter) (ask.Result, error) {
					return asking(ask.Request{SQL: c.Source, Params: params}, out)
				})
			}
			want := answer("true", func(r ask.Request, out format.RowWriter) (ask.Result, error) {
				return ask.Run(t.Context(), stock, r, out)
			})
			got := answer("false", func(r ask.Request, out format.RowWriter) (ask.Result, error) {
				return NewPlanned(tape, c, r, w).Run(t.Context(), out)
			})
			sameRows(t, fmt.Sprint(c.Name, " ", given), c.Name, want, got)
			compared++
		}
	}
	if compared < 30 {
		t.Errorf("%d compared", compared)
	}
}

// cannedNamed returns a canned query.
func cannedNamed(t *testing.T, name string) *Canned {
	t.Helper()
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	return library[slices.IndexFunc(library, func(c *Canned) bool { return c.Name == name })]
}
