package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// smallTape records n segments, one connection in each, by n boots of as many hosts.
func smallTape(t testing.TB, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tape")
	x := newWorld()
	for i := range n {
		o := options(100 * second)
		o.BootID, o.MachineID = fmt.Sprintf("boot-%d", i), fmt.Sprintf("machine-%d", i)
		o.Now.Real += int64(i) * int64(1000*second)
		w := mustOpenWriter(t, dir, o)
		c := x.connection(101 * second)
		c.Remote = endpoint(2, fmt.Sprintf("192.0.2.%d", i+1), 80)
		mustAppend(t, w, Batch{Connections: []Connection{c}, Counters: segment.Counters{"seen": 1, "stored": 1}})
		mustClose(t, w, 110*second)
	}
	return dir
}

// Every segment of a tape is read, however many there are.
func TestManySegments(t *testing.T) {
	const many = 45
	dir := smallTape(t, many)
	if names := files(t, dir); len(names) != many+3 || names[0] != "00000001.db" {
		t.Fatalf("no segment goes because there are many: %q", names)
	}
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT segment, remote_address FROM connections ORDER BY time_ns DESC LIMIT 2")
	if want := []string{"45|192.0.2.45", "44|192.0.2.44"}; !slices.Equal(got, want) {
		t.Errorf("newest: %q", got)
	}
	if got := one(t, tape.Conn(), "SELECT count(*), min(segment), max(segment), count(DISTINCT process_id) FROM connections"); got != "45|1|45|45" {
		t.Errorf("connections: %s", got)
	}
	for _, view := range []string{"processes", "endpoints", "gaps", "segments"} {
		if got := one(t, tape.Conn(), "SELECT count(DISTINCT segment) FROM "+view); got != "45" {
			t.Errorf("%s of %s segments", view, got)
		}
	}
	cov, err := tape.Coverage()
	if err != nil {
		t.Fatal(err)
	}
	if len(cov.LeftOut) != 0 || len(tape.Segments()) != many || cov.Counters["seen"] != many || cov.Recording {
		t.Errorf("coverage: %+v", cov)
	}
	// A single file, closed or not, can be read alone.
	for _, name := range []string{"00000001.db", "00000045.db"} {
		single := mustOpenTape(t, filepath.Join(dir, name))
		if got := one(t, single.Conn(), "SELECT count(*) FROM connections"); got != "1" {
			t.Errorf("%s: %s rows", name, got)
		}
	}
}

// What SQL compares columns to is handed on to the segments, if they have such a column and it is of that type.
func TestPushDown(t *testing.T) {
	tape := mustOpenTape(t, smallTape(t, 3))
	for where, want := range map[string]string{
		"time_ns > 5 AND id <= 9":              "time_ns > ? AND id <= ?",
		"time_ns BETWEEN 5 AND 9":              "time_ns >= ? AND time_ns <= ?",
		"exe = '/usr/bin/curl' AND exe > '!'":  "exe = ?",
		"remote_address = '192.0.2.1'":         "remote_address = ?",
		"remote_port = 80 OR pid = '7'":        "",
		"pid = 7.5 AND uid = '7' AND exe IS 5": "",
		"segment = 2":                          "segment = ?",
	} {
		p := &publicTable{tape: tape, name: "connections", columns: segment.ViewColumns("connections")}
		spy := &spyTable{publicTable: p}
		if err := tape.Table("spied", "connections", spy); err != nil {
			t.Fatal(err)
		}
		got, all := rows(t, tape.Conn(), "SELECT id FROM spied WHERE "+where), rows(t, tape.Conn(), "SELECT id FROM connections WHERE +("+where+")")
		if !slices.Equal(got, all) || !slices.Contains(spy.where, want) {
			t.Errorf("%s: %q, want %q; handed on: %q", where, got, all, spy.where)
		}
	}
}

// spyTable notes what its cursors hand on.
type spyTable struct {
	*publicTable
	where []string
}

func (s *spyTable) Open() (sqlite.VTableCursor, error) {
	return &spyCursor{&publicCursor{table: s.publicTable}, s}, nil
}

type spyCursor struct {
	*publicCursor
	spy *spyTable
}

func (c *spyCursor) Filter(id sqlite.IndexID, args []sqlite.Value) error {
	err := c.publicCursor.Filter(id, args)
	c.spy.where = append(c.spy.where, strings.Join(c.where, " AND "))
	return err
}

// Nothing but a query gets through, and nothing is changed by one.
func TestReaderCannotWrite(t *testing.T) {
	dir := smallTape(t, 2)
	outside := filepath.Join(t.TempDir(), "new.db")
	tape := mustOpenTape(t, dir)
	for _, query := range []string{
		"ATTACH '" + outside + "' AS x", "ATTACH ':memory:' AS x", "DETACH main", "VACUUM INTO '" + outside + "'", "VACUUM",
		"INSERT INTO gaps (cause, lost) VALUES ('x', 1)", "UPDATE connections SET fd = 9", "DELETE FROM connections",
		"CREATE TABLE x (y)", "CREATE TEMP TABLE x (y)", "CREATE VIEW main.x AS SELECT 1", "CREATE TEMP VIEW x AS SELECT 1",
		"CREATE VIRTUAL TABLE temp.x USING fts5(y)", "DROP VIEW connections", "DROP TABLE gaps", "ALTER TABLE gaps ADD x", "ANALYZE",
		"BEGIN IMMEDIATE", "SAVEPOINT x",
		"PRAGMA query_only = OFF", "PRAGMA main.journal_mode = WAL", "PRAGMA writable_schema = ON", "PRAGMA trusted_schema = ON", "PRAGMA main.user_version = 9",
		"PRAGMA temp_store_directory = '/'", "PRAGMA mmap_size = 1000000", "PRAGMA locking_mode = EXCLUSIVE", "PRAGMA wal_checkpoint", "PRAGMA optimize",
		"SELECT load_extension('x')", "SELECT load_extension('x', 'y')", "SELECT writefile('" + outside + "', 'x')", "SELECT readfile('/etc/passwd')", "SELECT edit('x')",
		"SELECT * FROM sqlite_dbpage", "SELECT * FROM sqlite_dbpage('main')", "SELECT * FROM dbstat", "SELECT * FROM pragma_journal_mode",
		"SELECT * FROM connections, (SELECT * FROM pragma_user_version)",
		"SELECT fts3_tokenizer('simple')",
	} {
		if err := segment.Exec(tape.Conn(), nil, query); err == nil {
			t.Errorf("%s: no error", query)
		}
	}
	for _, query := range []string{
		"ATTACH '" + outside + "' AS x", "VACUUM INTO '" + outside + "'", "INSERT INTO gap (cause, lost) VALUES ('x', 1)", "UPDATE connection SET fd = 9",
		"DROP VIEW connections", "PRAGMA journal_mode = WAL", "PRAGMA query_only = OFF", "SELECT * FROM sqlite_dbpage", "REINDEX",
	} {
		if err := segment.Exec(connOf(t, tape, 1), nil, query); err == nil {
			t.Errorf("%s on a segment: no error", query)
		}
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("a file was written")
	}
	if err := segment.Exec(tape.Conn(), nil, "DELETE FROM gaps"); !strings.Contains(failure.HintOf(tape.Explain(err)), "only SELECT") {
		t.Errorf("no hint: %v", tape.Explain(err))
	}
	for _, query := range []string{
		"WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT sum(i) FROM n",
		"SELECT group_concat(comm), json_group_array(exe), row_number() OVER () FROM connections GROUP BY comm",
		"SELECT value FROM json_each('[1]')", "PRAGMA table_info(connections)", "SELECT name FROM pragma_table_info('connections')",
		"PRAGMA integrity_check", "EXPLAIN QUERY PLAN SELECT * FROM gaps", "VALUES (1)",
	} {
		if err := segment.Exec(tape.Conn(), nil, query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	if err := segment.Exec(tape.Conn(), nil, "SELECT length(zeroblob(100000000))"); err == nil {
		t.Error("a value of 100 MB was made")
	}
	if names := files(t, dir); !slices.Equal(names, []string{"00000001.db", "00000002.db", "lock", "manifest", "manifest-details"}) {
		t.Errorf("files: %v", names)
	}
}

// Every function that the driver has was looked at: none but load_extension,
// which is off, reaches beyond the database. A new one must be looked at too.
func TestFunctionsReviewed(t *testing.T) {
	list, err := os.ReadFile("testdata/functions.txt")
	if err != nil {
		t.Fatal(err)
	}
	reviewed := strings.Fields(string(list))
	tape := mustOpenTape(t, smallTape(t, 1))
	for _, name := range rows(t, tape.Conn(), "SELECT DISTINCT name FROM pragma_function_list ORDER BY name") {
		if !slices.Contains(reviewed, name) {
			t.Errorf("function %s is not in testdata/functions.txt", name)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tape := smallTape(t, 1)
	whole, err := os.ReadFile(filepath.Join(tape, "00000001.db"))
	if err != nil {
		t.Fatal(err)
	}
	change := func(fn func(conn *sqlite.Conn) error) string {
		path := write("changed.db", string(whole))
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := fn(conn); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sql := func(statements ...string) func(*sqlite.Conn) error {
		return func(conn *sqlite.Conn) error {
			for _, s := range statements {
				if err := segment.Exec(conn, nil, s); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"nothing there":     {filepath.Join(t.TempDir(), "no"), failure.ErrNoTape},
		"empty directory":   {t.TempDir(), failure.ErrNoTape},
		"empty file":        {write("x.db", ""), failure.ErrNotSegment},
		"text":              {write("x.db", strings.Repeat("hello ", 5000)), failure.ErrNotSegment},
		"device":            {"/dev/zero", failure.ErrNotSegment},
		"foreign database":  {change(sql("PRAGMA application_id = 5")), failure.ErrNotSegment},
		"newer schema":      {change(sql("PRAGMA user_version = 99")), failure.ErrIncompatible},
		"incompatible bit":  {change(sql("UPDATE segment SET incompatible = 4")), failure.ErrIncompatible},
		"half":              {write("x.db", string(whole[:len(whole)/2])), failure.ErrDamaged},
		"header only":       {write("x.db", string(whole[:100])), failure.ErrDamaged},
		"zeroed schema":     {write("x.db", string(whole[:100])+strings.Repeat("\x00", len(whole)-100)), failure.ErrDamaged},
		"no description":    {change(sql("DELETE FROM segment")), failure.ErrDamaged},
		"poisoned view":     {change(sql("DROP VIEW gaps", "CREATE VIEW gaps AS SELECT load_extension('x')")), failure.ErrDamaged},
		"additional view":   {change(sql("CREATE VIEW more AS SELECT 1")), failure.ErrDamaged},
		"trigger":           {change(sql("CREATE TRIGGER t AFTER INSERT ON gap BEGIN SELECT 1; END")), failure.ErrDamaged},
		"index on function": {change(sql("CREATE INDEX i ON gap (upper(cause))")), failure.ErrDamaged},
		"missing table":     {change(sql("DROP TABLE repeat")), failure.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			tape, err := OpenTape(c.path)
			if err == nil {
				tape.Close()
				t.Fatal("no error")
			}
			var e *failure.Error
			if !errors.As(err, &e) || !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if failure.HintOf(err) == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, hint %q", err, failure.HintOf(err))
			}
		})
	}
}

// A page that is damaged is found when it is read, and said in one line.
func TestDamagedPage(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(999*second))
	l := newLoad(20, 50)
	conns := make([]Connection, 5000)
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	mustClose(t, w, l.boot)
	path := filepath.Join(dir, "00000001.db")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	leaves := 0
	for at := 0; at < len(data) && leaves < 3; at += pageSize { // the first and the last are read when the tape is opened
		if page := data[at:]; page[0] == 13 && binary.BigEndian.Uint16(page[3:]) >= 128 { // of connection: no other table has so many rows in a leaf
			if leaves++; leaves == 3 {
				copy(page, strings.Repeat("\xff", pageSize))
			}
		}
	}
	if leaves < 3 {
		t.Fatal("no leaf to damage")
	}
	if err := os.WriteFile(path, data, 0); err != nil {
		t.Fatal(err)
	}
	tape := mustOpenTape(t, dir)
	err = segment.Exec(tape.Conn(), nil, "SELECT * FROM connections")
	if err = tape.Explain(err); !errors.Is(err, failure.ErrDamaged) || failure.HintOf(err) == "" {
		t.Errorf("error %v", err)
	}
}

// A closed segment is text for the stock shell, with no function of ours.
func TestStockShell(t *testing.T) {
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("needs sqlite3")
	}
	dir := smallTape(t, 2)
	out, err := exec.Command(shell, "-readonly", "file:"+filepath.Join(dir, "00000001.db")+"?immutable=1",
		"SELECT time, exe, cmdline, remote_address, remote_port, outcome, ancestry FROM connections; SELECT cause, from_time, to_time FROM gaps; SELECT segment, state, seen FROM segments; SELECT count(*) FROM processes; SELECT address FROM endpoints; PRAGMA integrity_check").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := `2026-01-01T00:01:41.000000000Z|/usr/bin/curl|curl "http://a b/" \x1b[2J|192.0.2.1|80|refused|systemd(1) > bash(901) > curl(950)
start||2026-01-01T00:01:40.000000000Z
stopped|2026-01-01T00:01:50.000000000Z|2026-01-01T00:18:20.000000000Z
1|closed|1
3
192.0.2.1
ok
`
	if string(out) != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

// The public schema is a promise: columns are only ever added at the end.
func TestPublicColumns(t *testing.T) {
	tape := mustOpenTape(t, smallTape(t, 2))
	for view, want := range map[string]string{
		"connections":    "id time time_ns last_time count pid tid ppid comm exe cmdline cwd uid user gid euid loginuid session_id container cgroup netns family type protocol fd via local_address local_port remote_address remote_port remote_ip address_source hook_errno errno outcome backend process_id parent_id ancestry socket_family addrlen cookie remote_raw segment outcome_errno established_ns duration_ns bytes_sent bytes_received retransmits rtt_us closed_by outcome_source requested_address requested_port open_ns remote failed probe peer_pid peer_exe peer_unit exe_sha256 exe_sha1 exe_md5 hash_source script_sha256 script_sha1 script_md5 script_hash_source remote_name name_source",
		"processes":      "process_id parent_id pid ppid pid_in_ns comm exe script cmdline cmdline_truncated cwd uid user gid euid loginuid session_id cgroup container unit start_time exec_time exec_number exe_deleted exe_memfd exe_device exe_inode mntns pidns netns userns utsns ipcns cgroupns source ancestry cgroup_id segment boot_id mntns_is_host exe_sha256 exe_sha1 exe_md5 hash_source script_sha256 script_sha1 script_md5 script_hash_source exe_size",
		"endpoints":      "id family address port ip raw segment requested_address requested_port peer_pid name name_source",
		"gaps":           "id from_time to_time cause lost detail from_ns to_ns segment",
		"segments":       "segment tape_id state from_time to_time host machine_id boot_id kernel version backend blind_spots seen stored coalesced excluded lost path schema_version from_ns to_ns batches runs boots",
		"inbound":        "id time time_ns last_time count pid tid ppid comm exe cmdline cwd uid user gid euid loginuid session_id container cgroup netns family type protocol local_address local_port remote_address remote_port remote_ip peer_pid outcome ended failed bytes_sent bytes_received longest_ns backend process_id parent_id ancestry segment",
		"listeners":      "id time time_ns last_time count pid tid ppid comm exe cmdline cwd uid user gid euid loginuid session_id container cgroup netns action source family type protocol local_address local_port backend process_id parent_id ancestry segment",
		"sockets_opened": "id time time_ns last_time count pid tid ppid comm exe cmdline cwd uid user gid euid loginuid session_id container cgroup netns action source family type protocol local_address local_port backend process_id parent_id ancestry segment",
		"lookups":        "id time time_ns last_time count name type rcode answers ttl pid tid ppid comm exe cmdline cwd uid user gid euid loginuid session_id container cgroup netns protocol server_address server_port backend process_id parent_id ancestry segment",
		"programs":       "exe comm script exe_sha256 exe_sha1 exe_md5 hash_source script_sha256 script_sha1 script_md5 script_hash_source exe_size processes first_time process_id pid segment",
	} {
		got := strings.Join(rows(t, tape.Conn(), "SELECT name FROM pragma_table_info(?) ORDER BY cid", view), " ")
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", view, got, want)
		}
	}
}

// An address has one form in remote_ip and ip, and what is no address has none.
func TestPlainAddresses(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	want := []string{}
	for i, c := range []struct {
		family  uint16
		address string
		port    int32
		ip      string
	}{
		{2, "192.0.2.7", 443, "192.0.2.7"},
		{10, "::ffff:192.0.2.7", 443, "192.0.2.7"},
		{10, "::ffff:0:1", 0, "::ffff:0:1"},
		{10, "2001:db8::1", 53, "2001:db8::1"},
		{10, "fe80::1%2", 22, "fe80::1%2"},
		{2, "0x0050c000", -1, "NULL"}, // cut short
		{10, "::ffff:1.2.3.4", -1, "NULL"},
		{0, "", -1, "NULL"},
		{1, "::ffff:1.2.3.4", -1, "NULL"}, // a path
		{40, "cid 3", 22, "NULL"},
	} {
		x := newWorld().connection((101 + uint64(i)) * second)
		x.Remote = endpoint(c.family, c.address, c.port)
		mustAppend(t, w, Batch{Connections: []Connection{x}})
		want = append(want, c.address+"|"+c.ip)
	}
	mustClose(t, w, 120*second)
	tape := mustOpenTape(t, dir)
	if got := rows(t, tape.Conn(), "SELECT remote_address, remote_ip FROM connections ORDER BY time_ns"); !slices.Equal(got, want) {
		t.Errorf("connections %q", got)
	}
	if got := rows(t, tape.Conn(), "SELECT address, ip FROM endpoints ORDER BY id"); !slices.Equal(got, want) {
		t.Errorf("endpoints %q", got)
	}
}

// A gap left open in a segment that is not the newest ended when the next began.
func TestOpenGapOfEarlierSegment(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Gaps: []Gap{{From: 104 * second, Cause: "ring full", Lost: 5}}})
	w.now = func(string) (Anchor, error) { return at(108 * second), nil }
	w.setAside(errors.New("x"))
	mustAppend(t, w, Batch{Gaps: []Gap{{From: 104 * second, To: 109 * second, Cause: "ring full", Lost: 7}}})
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT segment, to_time, lost FROM gaps WHERE cause = 'ring full' ORDER BY segment")
	if want := []string{"1|2026-01-01T00:01:48.000000000Z|5", "2|2026-01-01T00:01:49.000000000Z|2"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// swapFile puts another file with these bytes in the place of one.
func swapFile(t *testing.T, path string, data []byte) {
	t.Helper()
	other := filepath.Join(filepath.Dir(path), "other")
	if err := os.WriteFile(other, data, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
}

// A segment is opened when it is needed. If its file is another one by then, as when it was sealed, that must be the same
// segment. One that was removed is left out, and said to be.
func TestSegmentChangesBeforeItIsRead(t *testing.T) {
	const count = "SELECT count(*), count(DISTINCT segment) FROM connections"
	dir := smallTape(t, 4)
	path := func(n int) string { return filepath.Join(dir, tapedir.SegmentName(n)) }
	whole, err := os.ReadFile(path(2))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(smallTape(t, 1), tapedir.SegmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func()
		want   string
		out    int
	}{
		"sealed":  {func() { swapFile(t, path(2), whole) }, "4|4", 0},
		"foreign": {func() { swapFile(t, path(2), other) }, "3|3", 1},
		"removed": {func() { os.Remove(path(2)) }, "3|3", 1},
	} {
		swapFile(t, path(2), whole)
		tape := mustOpenTape(t, dir)
		c.change()
		if got := one(t, tape.Conn(), count); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		cov, err := tape.Coverage()
		if err != nil || len(cov.LeftOut) != c.out || c.out > 0 && cov.LeftOut[0].Path != path(2) {
			t.Errorf("%s: left out %v, %v", name, cov.LeftOut, err)
		}
		if got := one(t, tape.Conn(), count); got != c.want {
			t.Errorf("%s, again: %s, want %s", name, got, c.want)
		}
	}
}

// Of many segments some dozens are open, and none is closed that is being read.
func TestFewAreOpen(t *testing.T) {
	dir := smallTape(t, 2)
	for n := 3; n <= 2*mostIdle; n++ {
		path := filepath.Join(dir, tapedir.SegmentName(n))
		replaceFile(t, filepath.Join(dir, tapedir.SegmentName(1)), path)
		alter(t, dir, n, fmt.Sprintf("UPDATE segment SET number = %d", n))
		sumAgain(t, path)
	}
	tape := mustOpenTape(t, dir)
	first := connOf(t, tape, 1)
	for range 2 {
		if got := one(t, tape.Conn(), "SELECT count(*) FROM connections"); got != fmt.Sprint(2*mostIdle) {
			t.Errorf("%s connections", got)
		}
	}
	open := 0
	for _, seg := range tape.segs {
		if seg.reading != nil {
			open++
		}
	}
	const held = 2 // the first, and the copy of the second
	if open != mostIdle+held || one(t, first, "SELECT count(*) FROM connection") != "1" {
		t.Errorf("%d are open", open)
	}
}

// The columns of the public views are those that SQLite tells, with the affinity that it gives them.
func TestViewColumns(t *testing.T) {
	conn := connOf(t, mustOpenTape(t, smallTape(t, 1)), 1)
	for _, view := range segment.Views {
		var want []string
		for _, row := range rows(t, conn, "SELECT name, type FROM pragma_table_info(?)", view) {
			want = append(want, strings.TrimSuffix(row, "|NUM"))
		}
		var got []string
		for _, c := range segment.ViewColumns(view) {
			got = append(got, c.Name+"|"+c.Type)
		}
		if !slices.Equal(got, want) || len(got) == 0 {
			t.Errorf("%s:\n%q\nwant\n%q", view, got, want)
		}
	}
}
