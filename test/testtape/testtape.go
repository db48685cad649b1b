// Package testtape makes tapes for tests of questions, and the plain tables that hold what SQLite reads of their views.
package testtape

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// CSVTo returns a writer of CSV.
func CSVTo(w io.Writer) format.RowWriter {
	to, err := format.NewRowWriter("csv", w, format.Options{})
	if err != nil {
		panic(err) // there is such a format
	}
	return to
}

// Generated opens a tape that writeGenerated wrote.
func Generated(t *testing.T, connections, segments int) *store.Tape {
	t.Helper()
	return Opened(t, WriteGenerated(t, connections, segments))
}

// WriteGenerated writes a tape of several segments that overlap in time, all but the last of them sealed.
func WriteGenerated(t *testing.T, connections, segments int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "tape")
	o := generate.Options{Seed: SeedOfTapes(t), Connections: connections, Processes: 60, Images: 20, Endpoints: 300, Begin: uint64(time.Hour), Span: 24 * time.Hour, Intrusion: true, Story: true, Mapped: true, InFlight: min(200, connections/10)}
	if err := generate.WriteTape(dir, generate.New(o), segments); err != nil {
		t.Fatal(err)
	}
	return dir
}

// SeedOfTapes is the seed of generated tapes, or CONNTAPE_TEST_SEED: answers are compared on any tape.
func SeedOfTapes(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CONNTAPE_TEST_SEED")
	if text == "" {
		return 3
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

func Opened(t *testing.T, dir string) *store.Tape {
	t.Helper()
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tape.Close() })
	return tape
}

// CSVOf returns an answer as CSV.
func CSVOf(t *testing.T, what string, ask func(format.RowWriter) (ask.Result, error)) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := ask(CSVTo(&out)); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return out.String()
}

// Altered opens a generated tape of three segments after SQL has changed each of them, %[1]d being its index.
func Altered(t *testing.T, connections int, script string) *store.Tape {
	t.Helper()
	dir := WriteGenerated(t, connections, 3)
	segments, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(segments) != 3 {
		t.Fatal(segments, err)
	}
	for i, path := range segments {
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(sqlitex.ExecuteScript(conn, strings.ReplaceAll(script, "%[1]d", fmt.Sprint(i)), nil), conn.Close())
		if i < 2 { // it is sealed
			err = errors.Join(err, sqlitefile.AppendSums(path, 0))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{segment.ManifestName, segment.DetailsName} { // of files that are no more
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return Opened(t, dir)
}

// Oddities are what generated tapes have not: users without a name and users whose name is a number, UNIX sockets whose paths
// look like addresses or are relative, programs whose connects are all of the hidden kinds, exact ties of counts.
const Oddities = `
	UPDATE task SET user = CASE id % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN '1000' WHEN 3 THEN '(none)' ELSE user END;
	UPDATE process SET user = NULL WHERE id % 2 = 0;
	UPDATE task SET uid = 1000 WHERE id % 5 < 2 AND id % 3 = 0;
	UPDATE OR IGNORE endpoint SET family = 1, port = -1, address = CASE id % 4 WHEN 0 THEN '10.0.0.1' WHEN 1 THEN 'run/docker.sock' WHEN 2 THEN '/srv/'||id||'/docker.sock' ELSE 'docker.sock' END WHERE id % 40 < 4;
	UPDATE process SET cwd = '/srv/lxd' WHERE id % 3 = 0;
	UPDATE process SET exe = '/opt/hidden' WHERE id IN (SELECT id FROM process ORDER BY id LIMIT 3);
	UPDATE shape SET type = 2 WHERE id % 3 = 0;
	UPDATE OR IGNORE endpoint SET port = 0 WHERE id % 7 = 0 AND family <> 1;
	UPDATE shape SET final = 0 WHERE protocol = 6 AND errno IN (0, 115);
	UPDATE connection SET outcome = CASE id % 7 WHEN 0 THEN x'0001' WHEN 1 THEN x'0481818001828001828182018101' WHEN 2 THEN x'048101818080800180818080018101' ELSE x'048101818001818080800183018101' END
		WHERE id % 5 > 0 AND shape IN (SELECT id FROM shape WHERE final = 0);` + SentElsewhere

// SentElsewhere has connects to one in seven addresses ask for another: mostly one that others went to, or the same at
// another port.
const SentElsewhere = `UPDATE endpoint SET requested = (SELECT q.id FROM endpoint q WHERE q.family = 2 AND q.id < endpoint.id AND q.requested = 0 ORDER BY (q.id * 7919) % 97, q.id LIMIT 1)
	WHERE family IN (2, 10) AND id % 7 = 0 AND id > (SELECT min(id) FROM endpoint WHERE family = 2);`

// SentToProxies has connects to one in three addresses sent to one of two proxies, as a service mesh does: many endpoints are one
// address, in both its forms, that differ in what was asked for.
const SentToProxies = `INSERT INTO endpoint (id, family, port, address, raw, requested) SELECT id + 9000000, family, port, address, x'', 0 FROM endpoint WHERE family IN (2, 10) AND port > 0 AND id % 3 = 0;
	UPDATE endpoint SET requested = id + 9000000, port = iif(id % 2, 15001, 15006), family = iif(id % 4 < 2, 2, 10), address = iif(id % 4 < 2, '127.0.0.6', '::ffff:127.0.0.6') WHERE id + 9000000 IN (SELECT id FROM endpoint);
	UPDATE OR IGNORE endpoint SET port = 15001, family = 2, address = '127.0.0.6' WHERE id IN (SELECT id FROM endpoint WHERE requested = 0 AND family = 2 AND id < 9000000 LIMIT 3);`

// StockOf returns a connection with the rows that the public views of all segments have, as SQLite reads them, in plain
// tables: what every answer is compared with. A view over each table gives its columns the affinity of the segment's view.
// The views are narrowed to the window.
func StockOf(t testing.TB, tape *store.Tape, w input.Window) *sqlite.Conn {
	t.Helper()
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	from, to := w.Bounds()
	for _, view := range segment.Views {
		var declared, selected, places []string
		for _, c := range segment.ViewColumns(view) {
			declared, places = append(declared, c.Name+" "+c.Type), append(places, "?")
			if c.Type == "" {
				selected = append(selected, "+"+c.Name+" AS "+c.Name)
			} else {
				selected = append(selected, c.Name)
			}
		}
		where := "1"
		if slices.Contains([]string{"connections", "inbound", "listeners", "sockets_opened", "lookups"}, view) {
			where = fmt.Sprintf("time_ns >= %d AND time_ns < %d", from, to)
		} else if view == "gaps" {
			where = fmt.Sprintf("coalesce(to_ns >= %d, 1) AND coalesce(from_ns < %d, 1)", from, to)
		}
		script := fmt.Sprintf("CREATE TABLE all_%[1]s (%[2]s); CREATE VIEW %[1]s AS SELECT %[3]s FROM all_%[1]s WHERE %[4]s;",
			view, strings.Join(declared, ", "), strings.Join(selected, ", "), where)
		if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
			t.Fatal(err)
		}
		insert, err := conn.Prepare("INSERT INTO all_" + view + " VALUES (" + strings.Join(places, ", ") + ")")
		if err != nil {
			t.Fatal(err)
		}
		end := sqlitex.Transaction(conn)
		for i := range tape.Segments() {
			copyRows(t, tape, i, view, insert)
		}
		end(&err)
		if err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// copyRows inserts the rows of a view of one segment; of connections that of a segment which knows what is recorded now.
func copyRows(t testing.TB, tape *store.Tape, place int, view string, insert *sqlite.Stmt) {
	t.Helper()
	from := view
	if view == "connections" {
		from = "(" + tape.Recording(place).In(segment.ViewQuery(view)) + ")"
	}
	err := tape.Use(place, func(conn *sqlite.Conn) error {
		rows, _, err := conn.PrepareTransient("SELECT * FROM " + from)
		if err != nil {
			return err
		}
		defer rows.Finalize()
		reader := ask.NewRowReader(rows.ColumnCount())
		for {
			if more, err := rows.Step(); err != nil || !more {
				return err
			}
			for i, v := range reader.Read(rows) {
				switch v.Kind {
				case format.Null:
					insert.BindNull(i + 1)
				case format.Integer:
					insert.BindInt64(i+1, v.Int)
				case format.Real:
					insert.BindFloat(i+1, v.Real)
				case format.Text:
					insert.BindText(i+1, string(v.Bytes))
				case format.Blob:
					insert.BindBytes(i+1, v.Bytes)
				}
			}
			if _, err := insert.Step(); err != nil {
				return err
			}
			if err := insert.Reset(); err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// OverlapOf returns the time that two segments of a tape, one after the other, have in common.
func OverlapOf(t *testing.T, tape *store.Tape, segment int) (from, to time.Time) {
	t.Helper()
	segments := tape.Segments()
	ask := func(place int, sql string) (at time.Time, err error) {
		err = tape.Use(place, func(conn *sqlite.Conn) error {
			ns, err := sqlitex.ResultInt64(conn.Prep(sql))
			at = time.Unix(0, ns)
			return err
		})
		return at, err
	}
	to, err := ask(segment, "SELECT max(id) FROM connection")
	if err == nil {
		from, err = ask(segment+1, "SELECT min(id) FROM connection")
	}
	if err != nil || !from.Before(to) {
		t.Fatalf("%d segments, no overlap: %v to %v, %v", len(segments), from, to, err)
	}
	return from.UTC(), to.UTC()
}

// OfBlocks opens a tape of one open segment of four batches, with rows of the first that came after all others. It returns
// addresses of some of these and some rare ones, and a name that one row of the first was given after all others, with the
// number of connections to each.
func OfBlocks(t *testing.T) (tape *store.Tape, addresses []string, seen map[string]int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tape")
	o := generate.Options{Seed: 5, Connections: 220_000, Processes: 400, Images: 20, Endpoints: 3000, Begin: uint64(time.Hour), Span: 24 * time.Hour}
	stream := generate.New(o)
	now, err := store.ReadAnchor("start")
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.OpenWriter(dir, store.WriterOptions{
		Version: "test", Backend: "fexit", BootID: "00000000-0000-4000-8000-000000000001",
		Now: store.Anchor{Boot: o.Begin, Real: now.Real, Kind: "start"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var late, all []store.Connection
	for {
		rows := stream.Batch(nil, 70_000)
		if len(rows) == 0 {
			break
		}
		all = append(all, rows...)
		var batch []store.Connection
		for i, row := range rows {
			if i%997 == 0 && len(all) == len(rows) { // of the first batch, after all others
				late = append(late, row)
			} else {
				batch = append(batch, row)
			}
		}
		if err := w.Append(store.Batch{Connections: batch, Now: batch[len(batch)-1].BootTime}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Append(store.Batch{Connections: late}); err != nil {
		t.Fatal(err)
	}
	named := slices.IndexFunc(all[1000:], func(c store.Connection) bool { return c.Count <= 1 && c.Remote.Port == 443 })
	row := all[1000+named]
	if err := w.Append(store.Batch{Namings: []store.Naming{{Connect: row.BootTime, Tid: row.Task.Tid, Port: row.Remote.Port, Name: "late.example", Source: store.NameSNI}}}); err != nil {
		t.Fatal(err)
	}
	seen = make(map[string]int)
	for i := range all {
		seen[all[i].Remote.Address]++
	}
	addresses = []string{late[3].Remote.Address, late[len(late)/2].Remote.Address, late[len(late)-1].Remote.Address}
	for _, row := range all[len(all)-2000:] {
		if a := row.Remote.Address; seen[a] < 5 && !slices.Contains(addresses, a) && len(addresses) < 6 {
			addresses = append(addresses, a)
		}
	}
	seen["late.example"] = 1
	return Opened(t, dir), append(addresses, "late.example"), seen
}
