package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/test/testtape"
)

// nasty writes a tape of three segments with everything that makes a row unlike the
// one before: hostile names, NULLs, rows that came late, even after their segment
// was closed, rows that stand for several, clocks that are set, every outcome.
func nasty(t *testing.T) string {
	t.Helper()
	const second = uint64(time.Second)
	dir := filepath.Join(t.TempDir(), "tape")
	begin := store.Anchor{Boot: 100 * second, Real: time.Date(2026, 7, 1, 12, 0, 0, 999_999_000, time.UTC).UnixNano(), Kind: "start"}
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "test", Backend: "fexit", BootID: "b", Kernel: "6.12", Host: "h", MachineID: "m", Now: begin})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var tasks []*store.Task
	for i, name := range hostileNames() {
		p := &store.Process{Key: store.ProcessKey{Tgid: uint32(i + 1), StartBoot: second}, Comm: name, Exe: name, Argv: []string{name, name},
			Cwd: name, LoginUID: int64(i%3) - 1, SessionID: -1, User: []string{"", "ann", "=2"}[i%3], Cgroup: name, Container: []string{"", "docker:1"}[i%2], Source: store.SourceExec}
		if i > 3 {
			p.Parent, p.PPID = tasks[i-2].Process, uint32(i-1)
		}
		tasks = append(tasks, &store.Task{Process: p, Tid: uint32(i), Comm: name, UID: uint32(i), User: []string{"", "bob"}[i/2%2], LoginUID: -1,
			SessionID: int64(i%4) - 1, NetNS: uint64(i % 2), Cgroup: p.Cgroup, Container: []string{"", "docker:1", "docker:2"}[i/3%3]})
	}
	var remotes []*store.Endpoint
	for i, to := range []store.Endpoint{
		{Family: 2, Address: "192.0.2.1", Port: 443}, {Family: 10, Address: "::ffff:192.0.2.1", Port: 443}, {Family: 10, Address: "fe80::1%2", Port: 0},
		{Family: 2, Address: "0x00", Port: -1}, {Family: 0, Port: -1}, {Family: 65535, Address: "0x01", Port: -1}, {Family: 1, Address: "/run/=x,\"y", Port: -1},
		{Family: 1, Address: escape.Bytes([]byte("@\x1b[2J\xff\n")), Port: -1}, {Family: 40, Address: "cid 3", Port: 22}, {Family: 99, Address: "-1", Port: -1},
	} {
		to.Raw = []byte{byte(i), 0xff}
		remotes = append(remotes, &to)
	}
	var shapes []*store.Shape
	for i, errno := range []int32{0, 111, 110, 101, 115, 4, 99, store.Unknown} {
		shapes = append(shapes, &store.Shape{SocketFamily: []uint16{2, 10, 1, 77}[i%4], Type: []uint16{1, 2, 3, 11}[i/2%4], Protocol: []uint16{6, 17, 0, 200}[i%4], Via: "connect",
			AddressSource: "kernel", Backend: "fexit", HookErrno: int32(i%3) - 1, Errno: errno, Addrlen: int32(i)})
	}
	at := 101 * second
	batch := func(n int) store.Batch {
		var b store.Batch
		for range n {
			at += random.Uint64N(second / 3)
			c := store.Connection{BootTime: at, Task: tasks[random.IntN(len(tasks))], Remote: remotes[random.IntN(len(remotes))], Shape: shapes[random.IntN(len(shapes))],
				FD: int32(random.IntN(5)) - 1, Cookie: random.Uint64() >> random.IntN(65)}
			switch random.IntN(5) {
			case 0:
				c.Count, c.LastBootTime = uint32(2+random.IntN(9)), at+random.Uint64N(20*second)
			case 1:
				c.Local = remotes[random.IntN(len(remotes))]
			case 2:
				c.BootTime -= min(random.Uint64N(4*second), at-101*second)
			}
			b.Connections = append(b.Connections, c)
		}
		b.Now = at
		return b
	}
	for i := range 6 {
		b := batch(500)
		b.Anchors = []store.Anchor{{Boot: at - second, Real: begin.Real + int64(at) + int64(i%3-1)*int64(time.Hour)*int64(i), Kind: "step"}}
		if err := w.Append(b); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 && i < 5 {
			if err := w.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(store.Gap{From: at}, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openNasty(t *testing.T, path string) *store.Tape {
	t.Helper()
	tape, err := store.OpenTape(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tape.Close() })
	return tape
}

// sameAsSQL compares a stream with what SQLite makes of the same question.
func sameAsSQL(t *testing.T, tape *store.Tape, r ask.Request, form string, zone *time.Location) (rows int64) {
	t.Helper()
	answer := func(ask func(context.Context, format.RowWriter) (ask.Result, error)) (string, ask.Result) {
		var out bytes.Buffer
		to, err := format.NewRowWriter(form, &out, format.Options{Coverage: &coverage.Coverage{}})
		if err != nil {
			t.Fatal(err)
		}
		result, err := ask(context.Background(), format.Watched(format.InZone(to, zone), func() {}, func(int64) {}))
		if err != nil {
			t.Fatalf("%s: %v", r.SQL, err)
		}
		return out.String(), result
	}
	stock := testtape.StockOf(t, tape, windowOf(Of(tape)))
	want, first := answer(func(ctx context.Context, out format.RowWriter) (ask.Result, error) {
		return ask.Run(ctx, stock, r, out)
	})
	got, second := answer(func(ctx context.Context, out format.RowWriter) (ask.Result, error) {
		s := streamOf(Of(tape), r)
		if s == nil {
			t.Fatalf("%s is left to SQLite", r.SQL)
		}
		return s.Run(ctx, r, out)
	})
	if got != want || first != second {
		a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || a[i] != b[i] {
				t.Errorf("%s as %s: %v and %v; line %d of %d and %d\nSQL    %s\nstream %s", r.SQL, form, first, second, i, len(a), len(b),
					strings.Join(a[min(i, len(a)):min(i+1, len(a))], ""), strings.Join(b[min(i, len(b)):min(i+1, len(b))], ""))
				break
			}
		}
	}
	return second.Rows
}

// A stream has byte for byte what SQLite makes of the view, in every format.
func TestStreamIsTheView(t *testing.T) {
	tape := openNasty(t, nasty(t))
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	const all = "SELECT * FROM connections ORDER BY time_ns"
	for _, format := range format.Names() {
		if n := sameAsSQL(t, tape, ask.Request{SQL: all}, format, nil); n != 3000 {
			t.Errorf("%s: %d rows", format, n)
		}
	}
	sameAsSQL(t, tape, ask.Request{SQL: all}, "csv", newYork)
	sameAsSQL(t, tape, ask.Request{SQL: all}, "table", newYork)
	for _, columns := range []string{
		"cmdline", "remote_ip", "time", "local_port,\n last_time , count", "outcome", "fd, cookie, segment, id", "container, outcome, user, exe, remote_raw, family",
	} {
		sameAsSQL(t, tape, ask.Request{SQL: "select " + columns + " from connections order by time_ns;"}, "csv", nil)
	}
	for _, limit := range []int64{1, 999, 1000, 1001, 2047, 2048, 2049, 2999, 3000, 3001} {
		sameAsSQL(t, tape, ask.Request{SQL: all, Limit: limit}, "jsonl", nil)
	}
	first, last := tape.Segments()[0].From, tape.Segments()[2].To
	for _, w := range []input.Window{{Since: first.Add(last.Sub(first) / 3)}, {Until: first.Add(last.Sub(first) / 2)}, {Since: first.Add(time.Minute), Until: first.Add(2 * time.Minute)}, {Since: last.Add(time.Hour)}} {
		tape.Bound(w.Since, w.Until)
		for _, format := range []string{"csv", "json"} {
			sameAsSQL(t, tape, ask.Request{SQL: all}, format, nil)
		}
	}
}

// One segment is read like many, and without an order the segments come one after
// another.
func TestStreamOfOneSegment(t *testing.T) {
	dir := nasty(t)
	tape := openNasty(t, filepath.Join(dir, "00000002.db"))
	sameAsSQL(t, tape, ask.Request{SQL: "SELECT * FROM connections"}, "csv", nil)
	sameAsSQL(t, openNasty(t, dir), ask.Request{SQL: "select id, segment from connections"}, "csv", nil)
}

// What is kept is bounded, and an answer does not depend on how much that is.
func TestStreamForgets(t *testing.T) {
	tape := openNasty(t, nasty(t))
	s := streamOf(Of(tape), ask.Request{SQL: "SELECT * FROM connections ORDER BY time_ns"})
	for _, segment := range s.Segments {
		segment.stream.limits.Kept = 2
	}
	var want, got bytes.Buffer
	if _, err := ask.Run(context.Background(), testtape.StockOf(t, tape, input.Window{}), ask.Request{SQL: "SELECT * FROM connections ORDER BY time_ns"}, testtape.CSVTo(&want)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(context.Background(), ask.Request{}, testtape.CSVTo(&got)); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Error("it differs")
	}
}

// On a tape that was altered, too, rows are those of the view.
func TestStreamOfAlteredTape(t *testing.T) {
	dir := nasty(t)
	for _, poison := range []string{
		"UPDATE clock SET offset_ns = offset_ns - 1782907200000000000", "UPDATE clock SET offset_ns = 9223372036854775807", "DELETE FROM clock",
		"DELETE FROM endpoint WHERE family = 2", "DELETE FROM process WHERE id % 2", "DELETE FROM shape", "UPDATE repeat SET last_ns = -5, count = -1",
		"UPDATE connection SET id = -id WHERE id % 3 = 0", "UPDATE connection SET local = 77 WHERE id % 2", "DELETE FROM clock WHERE id = 0",
		"UPDATE endpoint SET family = family * 256, port = -port", "UPDATE process SET user = char(27), container = '=1'", "UPDATE segment SET number = 7",
	} {
		altered := filepath.Join(t.TempDir(), "00000003.db")
		text, err := os.ReadFile(filepath.Join(dir, "00000003.db"))
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
		if err := errors.Join(sqlitex.ExecuteScript(conn, poison, nil), conn.Close()); err != nil {
			t.Fatalf("%s: %v", poison, err)
		}
		n := sameAsSQL(t, openNasty(t, altered), ask.Request{SQL: "SELECT * FROM connections ORDER BY time_ns"}, "csv", nil)
		t.Logf("%s: %d rows", poison, n)
	}
}

// Only questions that it answers are taken by a stream.
func TestStreamLeavesTheRest(t *testing.T) {
	tape := openNasty(t, nasty(t))
	for _, sql := range []string{
		"select count(*) from connections", "select exe, exe from connections", "select EXE from connections", "select nothere from connections", "select exe e from connections",
		"select exe from connections where pid = 1", "select * from processes", "select exe from connections order by pid", "select * from connections; select 1", "select rowid from connections", "select distinct exe from connections",
	} {
		if streamOf(Of(tape), ask.Request{SQL: sql}) != nil {
			t.Errorf("%s is taken", sql)
		}
	}
	if streamOf(Of(tape), ask.Request{SQL: "select * from connections", Params: map[string]format.Value{"x": {}}}) != nil {
		t.Error("a parameter is not missed")
	}
}

// A stream ends when it is told to, with what there is by then or with nothing, and
// at once when nobody takes what it writes.
func TestStreamEnds(t *testing.T) {
	tape := openNasty(t, nasty(t))
	const all = "SELECT * FROM connections ORDER BY time_ns"
	asking := func(ctx context.Context, r ask.Request, out format.RowWriter) (ask.Result, error) {
		r.SQL = all
		return streamOf(Of(tape), r).Run(ctx, r, out)
	}
	var out bytes.Buffer
	result, err := asking(context.Background(), ask.Request{Timeout: time.Nanosecond}, testtape.CSVTo(&out))
	if err != nil || result.Cut != "time limit of 1ns, there may be more" || !strings.HasPrefix(out.String(), "id,time,") {
		t.Errorf("time limit: %+v, %v, %q", result, err, out.String()[:min(50, out.Len())])
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrUnexpectedEOF)
	out.Reset()
	if _, err := asking(ctx, ask.Request{}, testtape.CSVTo(&out)); err != io.ErrUnexpectedEOF || out.Len() > 0 {
		t.Errorf("interrupt: %v, %d bytes", err, out.Len())
	}
	full := fmt.Errorf("no room")
	if _, err := asking(context.Background(), ask.Request{}, testtape.CSVTo(failAfter{full, 100_000}.writer())); err != full {
		t.Errorf("a write that fails: %v", err)
	}
	if _, err := asking(context.Background(), ask.Request{}, ask.EachRow(func([]format.Value) error { return full })); err != full {
		t.Errorf("a row that fails: %v", err)
	}
	sameAsSQL(t, tape, ask.Request{SQL: all}, "csv", nil) // the connection is as it was
}

// failAfter fails once so many bytes were written.
type failAfter struct {
	err  error
	left int
}

func (f failAfter) writer() io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		if f.left -= len(p); f.left < 0 {
			return 0, f.err
		}
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// How fast an export is: go test ./query -run '^$' -bench Export. Beside it the same
// question as SQLite answers it.
func BenchmarkExport(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "tape")
	o := generate.Issue5()
	o.Connections, o.Span = 300_000, 24*time.Hour
	if err := generate.WriteTape(dir, generate.New(o), 3); err != nil {
		b.Fatal(err)
	}
	tape, err := store.OpenTape(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer tape.Close()
	for _, columns := range []string{"*", "time_ns, process_id, pid, exe, cmdline, user, container, remote_address, remote_port, outcome, count"} {
		r := ask.Request{SQL: "SELECT " + columns + " FROM connections"}
		for name, ask := range map[string]func(format.RowWriter) (ask.Result, error){
			"stream": func(out format.RowWriter) (ask.Result, error) {
				return RunSQL(context.Background(), tape, r, out)
			},
			"SQLite": func(out format.RowWriter) (ask.Result, error) {
				return ask.Run(context.Background(), tape.Conn(), r, out)
			},
		} {
			b.Run(fmt.Sprintf("%s/%s", name, map[bool]string{true: "all", false: "11"}[columns == "*"]), func(b *testing.B) {
				for range b.N {
					result, err := ask(testtape.CSVTo(io.Discard))
					if err != nil || result.Rows != int64(o.Connections) {
						b.Fatal(result, err)
					}
				}
				b.ReportMetric(float64(b.N*o.Connections)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

// hostileNames are names that a traced process may choose to harm who reads them.
func hostileNames() []string {
	return []string{
		"plain", "", "two words", "naïve 日本語 😀", "comma, \"quote\" 'apostrophe'", "line\nfeed\r\nand\ttab", "\x1b[31mred\x1b]0;title\a",
		"right\u202eto left\u2066\u200b\ufeff", "\xff\xfe not utf-8 \xc3", "=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(1)", "\t=tab", "\r=return",
		"＝wide", "nul\x00inside", "\u009bC1 control", "</script><b>", "back\\slash \\x1b", "\u2028line separator", "-", "'",
		strings.Repeat("A", 300),
	}
}
