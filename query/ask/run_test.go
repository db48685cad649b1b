package ask

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"zombiezen.com/go/sqlite"
)

func memory(t *testing.T) *sqlite.Conn {
	t.Helper()
	conn, err := sqlite.OpenConn(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func ask(t *testing.T, conn *sqlite.Conn, r Request) (string, Result, error) {
	t.Helper()
	var out bytes.Buffer
	result, err := Run(context.Background(), conn, r, csvWriterTo(&out))
	return out.String(), result, err
}

func TestRun(t *testing.T) {
	conn := memory(t)
	for _, c := range []struct{ sql, want string }{
		{"select 1 a, 'x' b, null c, 2.5 d, x'00' e", "a,b,c,d,e\n1,x,,2.5,x'00'\n"},
		{"select 1 where 0", "1\n"},
		{"\ufeff /* one */ -- two\n ; select 1 ; ; -- end", "1\n1\n"},
		{"values (1),(2)", "column1\n1\n2\n"},
		{"explain select 1", ""},
		{"select 1 a, 2 a, 3 \"a:1\"", "a,a,a:1\n1,2,3\n"},
		{"select 1 a, 2 a, 3 a;", "a,a,a\n1,2,3\n"},
		{"select 1 a, 2 a -- comment", "a,a\n1,2\n"},
		{"with t as (select 1 x) select * from t, t u", "x,x\n1,1\n"},
		{"select '' ", "''\n\"\"\n"},
	} {
		got, _, err := ask(t, conn, Request{SQL: c.sql})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.sql, err)
			}
			continue
		}
		if err != nil || got != strings.ReplaceAll(c.want, "''\n", "''''\n") && got != c.want {
			t.Errorf("%s: got %q, %v", c.sql, got, err)
		}
	}
}

func TestRunParams(t *testing.T) {
	params := make(map[string]format.Value)
	for _, text := range []string{"a=5", ":b=05", "c=NULL", "d=x=y", "e="} {
		name, v, err := ParseParam(text)
		if err != nil {
			t.Fatal(err)
		}
		params[name] = v
	}
	got, _, err := ask(t, memory(t), Request{SQL: "select typeof(:a), typeof(@b), typeof($c), :d, typeof(:e), :a", Params: params})
	if err != nil || !strings.HasSuffix(got, "\ninteger,text,null,x=y,text,5\n") {
		t.Errorf("got %q, %v", got, err)
	}
}

// A bound answer says that it is cut, and only when something is missing.
func TestRunCut(t *testing.T) {
	const ten = "with recursive n(i) as (select 1 union all select i+1 from n where i<10) select i from n"
	for limit, cut := range map[int64]bool{0: false, 9: true, 10: false, 11: false} {
		got, result, err := ask(t, memory(t), Request{SQL: ten, Limit: limit})
		want := int64(10)
		if cut {
			want = limit
		}
		if err != nil || (result.Cut != "") != cut || result.Rows != want || int64(strings.Count(got, "\n")) != want+1 {
			t.Errorf("limit %d: %+v, %v, %q", limit, result, err, got)
		}
	}
	start := time.Now()
	_, result, err := ask(t, memory(t), Request{SQL: strings.Replace(ten, "where i<10", "", 1), Timeout: 50 * time.Millisecond})
	if err != nil || !strings.HasPrefix(result.Cut, "time limit of 50ms") || time.Since(start) > 5*time.Second {
		t.Errorf("time limit: %+v, %v after %v", result, err, time.Since(start))
	}
	// A statement that gives no row in its time is a cut answer without rows,
	// and the connection is good for the next one.
	conn := memory(t)
	for range 2 {
		_, result, err = ask(t, conn, Request{SQL: strings.Replace(ten, "where i<10) select i", ") select max(i)", 1), Timeout: 50 * time.Millisecond})
		if err != nil || result.Rows != 0 || result.Cut == "" {
			t.Errorf("time limit without rows: %+v, %v", result, err)
		}
	}
}

func TestRunStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(enough) })
	_, err := Run(ctx, memory(t), Request{SQL: "with recursive n(i) as (select 1 union all select i+1 from n) select max(i) from n"}, csvWriterTo(&bytes.Buffer{}))
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if _, err = Run(ctx, memory(t), Request{SQL: "select 1"}, csvWriterTo(&bytes.Buffer{})); !errors.Is(err, enough) {
		t.Errorf("before it began: got %v", err)
	}
}

// Memory does not grow with the answer.
func TestRunStreams(t *testing.T) {
	for _, name := range format.Names() {
		var out countingWriter
		w, err := format.NewRowWriter(name, &out, format.Options{Width: 80})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Run(context.Background(), memory(t), Request{SQL: `with recursive n(i) as (select 1 union all select i+1 from n where i<50000)
			select i, hex(zeroblob(100)) from n`}, w)
		least := 20
		if name == "parquet" {
			least = 5 // it packs a column of 65,536 rows at a time
		}
		if err != nil || out.writes < least || out.largest > 512<<10 {
			t.Errorf("%s: %d writes, the largest of %d bytes, %v", name, out.writes, out.largest, err)
		}
	}
}

type countingWriter struct{ writes, largest int }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.writes++
	w.largest = max(w.largest, len(p))
	return len(p), nil
}

func TestNearest(t *testing.T) {
	names := []string{"recent", "gaps", "list", "show", "sql"}
	for word, want := range map[string]string{"recnt": "recent", "RECENT": "recent", "gap": "gaps", "lsit": "list", "xyz": "", "": "", "rec": "recent"} {
		if got := input.Nearest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "64K": 65536, "64kib": 65536, "16 MB": 16 << 20, "1g": 1 << 30, "7b": 7} {
		if n, err := input.ParseSize(text); err != nil || n != want {
			t.Errorf("%s: got %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "-1", "1.5M", "K", "99999999999T", "1 parsec"} {
		if n, err := input.ParseSize(text); !errors.Is(err, input.ErrUsage) {
			t.Errorf("%q: got %d, %v", text, n, err)
		}
	}
}

// csvWriterTo returns a writer of CSV.
func csvWriterTo(w io.Writer) format.RowWriter {
	to, err := format.NewRowWriter("csv", w, format.Options{})
	if err != nil {
		panic(err) // there is such a format
	}
	return to
}
