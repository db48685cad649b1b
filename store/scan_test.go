package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// scanned returns what Scan reads, as text.
func scanned(t *testing.T, tape *Tape, from, to int64) []string {
	t.Helper()
	var got []string
	err := tape.ScanConnections(t.Context(), len(tape.segs)-1, from, to, segment.Wanted{}, func(id, task, remote, shape int64) error {
		got = append(got, fmt.Sprintf("%d|%d|%d|%d", id, task, remote, shape))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Scan reads what SQLite reads, of a table of one page and of one of three levels, and any part of it.
func TestScanReadsLikeSQLite(t *testing.T) {
	for _, n := range []int{0, 1, 90, 5000, 120_000} {
		dir := filepath.Join(t.TempDir(), "tape")
		w := mustOpenWriter(t, dir, options(100*second))
		l := newLoad(300, 700)
		if n > 0 {
			conns := make([]Connection, n)
			l.fill(conns)
			for i := range conns {
				if i%7 == 0 {
					conns[i].FD, conns[i].Cookie = -1, 0
				}
			}
			mustAppend(t, w, l.batch(conns))
		}
		mustClose(t, w, l.boot+second)
		tape := mustOpenTape(t, dir)
		all := rows(t, connOf(t, tape, 1), "SELECT id, task, remote, shape FROM connection ORDER BY id")
		if len(all) != n {
			t.Fatalf("%d rows, want %d", len(all), n)
		}
		const lowest, highest = -1 << 63, 1<<63 - 1
		var places []string
		err := tape.ScanEndpoints(t.Context(), 0, func(id, family int64, address []byte, port int64) error {
			places = append(places, fmt.Sprintf("%d|%d|%s|%d", id, family, address, port))
			return nil
		})
		if want := rows(t, connOf(t, tape, 1), "SELECT id, family, address, port FROM endpoint ORDER BY id"); err != nil || !slices.Equal(places, want) {
			t.Errorf("%d endpoints, want %d: %v", len(places), len(want), err)
		}
		if got := scanned(t, tape, lowest, highest); !slices.Equal(got, all) {
			t.Errorf("%d rows: %d read, or others", n, len(got))
		}
		for range min(n, 30) {
			from, to := rand.IntN(n), rand.IntN(n)
			idOf := func(i int) (id int64) { fmt.Sscan(strings.Split(all[i], "|")[0], &id); return id }
			if got, want := scanned(t, tape, idOf(from), idOf(to)), all[from:max(from, to)]; !slices.Equal(got, want) {
				t.Errorf("%d rows, from %d to %d: %d read", n, from, to, len(got))
			}
		}
	}
}

// Of what is wanted nothing is passed over, and of the rest nearly all is.
func TestScanOfWanted(t *testing.T) {
	dir := loaded(t, 300, 700, 20_000)
	tape := mustOpenTape(t, dir)
	lists := func(n int) []bool {
		has := make([]bool, n)
		for i := range has {
			has[i] = rand.IntN(10) == 0
		}
		return has
	}
	for _, wanted := range []segment.Wanted{{}, {Tasks: lists(250)}, {Remotes: lists(600)}, {Tasks: lists(301), Remotes: lists(701)}, {Tasks: []bool{}}} {
		has := func(list []bool, id int64) bool { return list == nil || id < int64(len(list)) && list[id] }
		read, want := 0, 0
		err := tape.ScanConnections(t.Context(), 0, -1<<63, 1<<63-1, wanted, func(_, task, remote, _ int64) error {
			read++
			if has(wanted.Tasks, task) && has(wanted.Remotes, remote) {
				want++
			}
			return nil
		})
		all := 0
		for _, row := range rows(t, connOf(t, tape, 1), "SELECT task, remote FROM connection") {
			var task, remote int64
			fmt.Sscanf(row, "%d|%d", &task, &remote)
			if has(wanted.Tasks, task) && has(wanted.Remotes, remote) {
				all++
			}
		}
		if err != nil || want != all || read > want+20_000/50 || wanted.Tasks == nil && all == 0 {
			t.Errorf("%d and %d: %d read, %d of them wanted, want %d: %v", len(wanted.Tasks), len(wanted.Remotes), read, want, all, err)
		}
	}
}

// loaded writes a tape of one segment that is not sealed.
func loaded(t *testing.T, tasks, endpoints, connections int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(100*second))
	l := newLoad(tasks, endpoints)
	conns := make([]Connection, connections)
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	mustClose(t, w, l.boot+second)
	return dir
}

// An address that is longer than a page, which no recorder writes, is read whole.
func TestScanOfLongRows(t *testing.T) {
	dir := loaded(t, 30, 70, 500)
	alter(t, dir, 1, `UPDATE endpoint SET address = address || printf('%.*c', 37 * id * id, 'x'), raw = zeroblob(id) WHERE id % 3 = 0`)
	tape := mustOpenTape(t, dir)
	var got []string
	err := tape.ScanEndpoints(t.Context(), 0, func(id, family int64, address []byte, port int64) error {
		got = append(got, fmt.Sprintf("%d|%d|%s|%d", id, family, address, port))
		return nil
	})
	want := rows(t, connOf(t, tape, 1), "SELECT id, family, address, port FROM endpoint ORDER BY id")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d endpoints, want %d: %v", len(got), len(want), err)
	}
}

// What fn returns ends it, as the end of the context does.
func TestScanEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(100*second))
	l := newLoad(30, 70)
	conns := make([]Connection, 5000)
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	tape := mustOpenTape(t, dir)
	enough, read := errors.New("enough"), 0
	count := func(_, _, _, _ int64) error {
		if read++; read == 10 {
			return enough
		}
		return nil
	}
	if err := tape.ScanConnections(t.Context(), 0, 0, 1<<63-1, segment.Wanted{}, count); !errors.Is(err, enough) || read != 10 {
		t.Errorf("%v after %d rows", err, read)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if err := tape.ScanConnections(ctx, 0, 0, 1<<63-1, segment.Wanted{}, count); !errors.Is(err, enough) || read != 10 {
		t.Errorf("%v after %d rows", err, read)
	}
}

// A table whose bytes are anything is read to an end: what is no row of it, or leads nowhere or in a ring, is said.
func TestScanOfDamagedTable(t *testing.T) {
	dir := loaded(t, 30, 70, 60_000)
	tape := mustOpenTape(t, dir)
	connOf(t, tape, 1)
	roots := tape.segs[0].reading.Tables.Roots
	first := roots["connection"]
	whole, err := os.ReadFile(filepath.Join(dir, "00000001.db"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged")
	said := 0
	for round := range 400 {
		damaged := slices.Clone(whole)
		root := int(first-1) * pageSize
		switch round {
		case 0: // the root leads to itself
			for i := range 100 {
				damaged[root+12+2*i], damaged[root+13+2*i] = 0x0f, 0x00
			}
			copy(damaged[root+0xf00:], []byte{byte(first >> 24), byte(first >> 16), byte(first >> 8), byte(first), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		case 1: // it is shorter than it says
			damaged = damaged[:len(damaged)/2]
		case 2:
			damaged = damaged[:50]
		case 3:
			damaged = nil
		case 4: // of pages that nobody makes
			damaged[16], damaged[17] = 2, 0
		default:
			damage(damaged, root, 1+rand.IntN(3000))
		}
		c := tablesWith(t, path, damaged, roots)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		table := []string{"connection", "endpoint"}[max(0, round-4)%2]
		err := scanBothWays(t, ctx, c, table)
		if ctx.Err() != nil {
			t.Errorf("round %d has no end", round)
		}
		if err != nil {
			said++
		} else if round < 5 {
			t.Errorf("round %d: nothing was wrong", round)
		}
		cancel()
		c.Close()
	}
	t.Logf("%d of 400 rounds were said to be damaged", said)
}

// tablesWith returns the tables of a file that it writes.
func tablesWith(t testing.TB, path string, data []byte, roots map[string]uint32) *segment.Tables {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	tables, err := segment.OpenTables(path)
	if err != nil {
		t.Fatal(err)
	}
	tables.Roots = roots
	return tables
}

// damage changes so many bytes, a third of them on the page at root.
func damage(data []byte, root, bytes int) {
	for range bytes {
		at := rand.IntN(len(data))
		if rand.IntN(3) == 0 {
			at = root + rand.IntN(pageSize)
		}
		data[at] = byte(rand.Uint32())
	}
}

// Whatever bytes a file has, reading a table of it ends, with rows in order or an error.
func FuzzScan(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "tape")
	w := mustOpenWriter(f, dir, options(100*second))
	l := newLoad(5, 7)
	for _, n := range []int{3, 400} { // a leaf; a branch and its leaves
		conns := make([]Connection, n)
		l.fill(conns)
		mustAppend(f, w, l.batch(conns))
		tape := mustOpenTape(f, dir)
		copied, err := segment.Snapshot(f.Context(), filepath.Join(dir, tapedir.SegmentName(1)), f.TempDir())
		if err != nil {
			f.Fatal(err)
		}
		whole, err := os.ReadFile(copied)
		if err != nil {
			f.Fatal(err)
		}
		for _, table := range []string{"connection", "endpoint"} {
			f.Add(whole, tape.segs[0].reading.Tables.Roots[table])
		}
		tape.Close()
	}
	path := filepath.Join(f.TempDir(), "pages")
	f.Fuzz(func(t *testing.T, data []byte, root uint32) {
		c := tablesWith(t, path, data, map[string]uint32{"connection": root, "endpoint": root})
		defer c.Close()
		_ = scanBothWays(t, t.Context(), c, "connection")
	})
}

// scanBothWays reads a table as places, and as connections, the long way and as fast as can be, which must be the same.
func scanBothWays(t *testing.T, ctx context.Context, c *segment.Tables, table string) error {
	t.Helper()
	var ways [2][][4]int64
	var errs [2]error
	for i := range ways {
		take := func(id, task, remote, shape int64) error {
			if n := len(ways[i]); n > 0 && id <= ways[i][n-1][0] {
				t.Errorf("%d after %d", id, ways[i][n-1][0])
			}
			ways[i] = append(ways[i], [4]int64{id, task, remote, shape})
			return nil
		}
		if i == 0 {
			errs[i] = failure.Classify(c.Rows(ctx, c.Roots[table], -1<<63, 1<<63-1, func(id int64, row []byte) error {
				r := sqlitefile.ReadRecord(row)
				r.Null()
				task, remote, shape := r.Int(), r.Int(), r.Int()
				if !r.OK() {
					return fmt.Errorf("%w: connection %d", failure.ErrDamaged, id)
				}
				return take(id, task, remote, shape)
			}))
		} else {
			errs[i] = failure.Classify(c.Connections(ctx, c.Roots[table], -1<<63, 1<<63-1, segment.Wanted{}, take))
		}
	}
	if err := c.Connections(ctx, c.Roots[table], -1<<63, 1<<63-1, segment.Wanted{Tasks: []bool{}}, func(_, _, _, _ int64) error { return nil }); err != nil && errs[0] == nil {
		t.Errorf("what nobody wants: %v", err)
	}
	_ = c.Endpoints(ctx, func(_, _ int64, _ []byte, _ int64) error { return nil })
	if !slices.Equal(ways[0], ways[1]) || fmt.Sprint(errs[0]) != fmt.Sprint(errs[1]) {
		t.Errorf("%d rows, %v; fast %d rows, %v", len(ways[0]), errs[0], len(ways[1]), errs[1])
	}
	return errs[0]
}
