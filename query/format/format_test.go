package format

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store/escape"
)

// update rewrites the golden files: go test ./query -update
var update = flag.Bool("update", false, "rewrite the golden files")

// hostile are names that an attacker may choose, and what formats stumble over.
func hostile() []string {
	return []string{
		"plain", "", "two words", "naïve 日本語 😀", "comma, \"quote\" 'apostrophe'", "line\nfeed\r\nand\ttab", "\x1b[31mred\x1b]0;title\a",
		"right\u202eto left\u2066\u200b\ufeff", "\xff\xfe not utf-8 \xc3", "=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(1)", "\t=tab", "\r=return",
		"＝wide", "nul\x00inside", "\u009bC1 control", "</script><b>", "back\\slash \\x1b", "\u2028line separator", "-", "'",
		strings.Repeat("A", 300),
	}
}

// writeHostile writes the same answer in any format.
func writeHostile(t *testing.T, name string, o Options) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewRowWriter(name, &out, o)
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(w.Begin([]string{"n", "name", "x", "x", "=1+1\x1b[0m"}))
	for i, s := range hostile() {
		check(w.Row([]Value{{Kind: Integer, Int: int64(-i)}, {Kind: Text, Bytes: []byte(s)}, {Kind: Null},
			{Kind: Real, Real: float64(i) / 4}, {Kind: Blob, Bytes: []byte(s)[:min(3, len(s))]}}))
	}
	check(w.End("row limit of 3"))
	return out.Bytes()
}

// hostileOrigin is of a host, and with a question, that are no text to trust.
func hostileOrigin(at time.Time) *Origin {
	return &Origin{Host: "web1</dd><script>", Question: "conntape query who '<b>\x1b[31m'", Exported: at, Version: "1.2.3", TapeID: "0123</dl>", Head: "conntape/x\n1\nabc</pre>=\n\n— x y<i>\n"}
}

func TestGolden(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 5, time.UTC)
	coverage := &coverage.Coverage{From: &at, To: &at, Gaps: []coverage.Gap{{From: &at, Cause: "ring", Detail: "x\x1b[31m\u202e</script>"}}, Zone: time.UTC}
	for _, c := range []struct {
		file, format string
		options      Options
	}{
		{"hostile.csv", "csv", Options{}},
		{"hostile.raw.csv", "csv", Options{Raw: true}},
		{"hostile.json", "json", Options{Coverage: coverage}},
		{"hostile.jsonl", "jsonl", Options{}},
		{"hostile.tsv", "tsv", Options{}},
		{"hostile.raw.tsv", "tsv", Options{Raw: true}},
		{"hostile.md", "markdown", Options{}},
		{"hostile.html", "html", Options{Coverage: coverage, Origin: hostileOrigin(at)}},
		{"hostile.table", "table", Options{}},
		{"hostile.80.table", "table", Options{Width: 80}},
		{"hostile.20.table", "table", Options{Width: 20}},
	} {
		t.Run(c.file, func(t *testing.T) {
			got := writeHostile(t, c.format, c.options)
			if at := unsafeAt(got); at >= 0 {
				t.Errorf("byte %d is not safe to show: %q", at, got[max(0, at-20):min(len(got), at+20)])
			}
			golden := filepath.Join("testdata", c.file)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s (go test ./query -update)\n%s", golden, got)
			}
		})
	}
}

// unsafeAt returns where text holds something that a terminal acts upon, or -1.
func unsafeAt(text []byte) int {
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 || r != '\n' && r != '\t' && (r < ' ' || r == 0x7f) || r > 0x7f && !escape.IsShowable(r) {
			return at
		}
		at += size
	}
	return -1
}

// A CSV reader gets back every text, escaped and neutralised, and nothing more.
func TestCSVReadsBack(t *testing.T) {
	for _, raw := range []bool{false, true} {
		rows, err := csv.NewReader(bytes.NewReader(writeHostile(t, "csv", Options{Raw: raw}))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != len(hostile())+1 {
			t.Fatalf("%d rows, want %d", len(rows), len(hostile())+1)
		}
		for i, s := range hostile() {
			want := string(escape.AppendSafe(nil, []byte(s), true))
			if !raw && startsFormula([]byte(s)) {
				want = "'" + want
			}
			if rows[i+1][1] != want || rows[i+1][0] != fmt.Sprint(-i) {
				t.Errorf("row %d: got %q", i, rows[i+1])
			}
		}
	}
}

// Every line of TSV is a row and every tab parts two cells.
func TestTSVReadsBack(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(string(writeHostile(t, "tsv", Options{})), "\n"), "\n")
	if len(lines) != len(hostile())+1 {
		t.Fatalf("%d lines, want %d", len(lines), len(hostile())+1)
	}
	for i, s := range hostile() {
		cells := strings.Split(lines[i+1], "\t")
		want := escape.Safe(s)
		if startsFormula([]byte(s)) {
			want = "'" + want
		}
		if len(cells) != 5 || cells[1] != want {
			t.Errorf("row %d: got %q, want %q", i, cells, want)
		}
	}
}

// A row of Markdown has as many cells as the header, whatever is in it, and text
// that Markdown would act upon is in a code span.
func TestMarkdownIsATable(t *testing.T) {
	for text, want := range map[string]string{
		"": "|  |", "10.0.0.1:443": "| 10.0.0.1:443 |", "two words": "| two words |", "a|b": "| `a\\|b` |", `a\|b`: "| `a\\\\x7cb` |",
		"`": "| `` ` `` |", "a``b": "| ```a``b``` |", "![x](http://e)": "| `![x](http://e)` |", "www.e.org": "| `www.e.org` |", "http://e": "| `http://e` |",
		"<img>": "| `<img>` |", "a_b_": "| `a_b_` |", "line\n| x |": "| `line\\x0a\\| x \\|` |", "a@e.org": "| `a@e.org` |", "&#124;": "| `&#124;` |",
	} {
		var out bytes.Buffer
		w := newMarkdown(&out)
		for _, err := range []error{w.Begin([]string{"a"}), w.Row([]Value{{Kind: Text, Bytes: []byte(text)}}), w.End("")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Split(out.String(), "\n"); len(got) != 4 || got[2] != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Nothing in a page is markup but what the writer wrote.
func TestHTMLIsText(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 5, time.UTC)
	page := string(writeHostile(t, "html", Options{Origin: hostileOrigin(at), Coverage: &coverage.Coverage{From: &at, To: &at, LeftOut: []string{"</p><script>"}, Zone: time.UTC}}))
	known := regexp.MustCompile(`</?(?:!DOCTYPE html|html|html lang="en"|head|meta [^<>]*|title|style|body|table|thead|tbody|tr|th|td|td class="[nw]"|p|div|dl|dt|dd|pre|wbr)>`)
	if rest := known.ReplaceAllString(page, ""); strings.ContainsAny(rest, "<>") {
		t.Errorf("there is other markup: %s", rest)
	}
	for _, want := range []string{"<dt>host</dt><dd>web1&lt;/dd&gt;&lt;script&gt;</dd>", "<dt>question</dt><dd>conntape query who", "<dt>window</dt><dd>the beginning to the end</dd>",
		"<dt>exported</dt><dd>2026-07-01T12:00:00.000000005Z</dd>", "<dt>conntape</dt><dd>1.2.3</dd>", "<dt>tape</dt><dd>0123&lt;/dl&gt;</dd>", "<dt>signed head</dt><dd><pre>conntape/x\n1\nabc&lt;/pre&gt;=\n\n— x y&lt;i&gt;</pre></dd>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if cells := strings.Count(page, "<td"); cells != 5*len(hostile()) {
		t.Errorf("%d cells, want %d", cells, 5*len(hostile()))
	}
	for _, want := range []string{"&lt;/script&gt;&lt;b&gt;", "24 rows, cut: row limit of 3", "LEFT OUT &lt;/p&gt;"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// Numbers, times, addresses and short words stay whole; long paths and command lines
// may break after separators, and nowhere else.
func TestHTMLBreaks(t *testing.T) {
	var out bytes.Buffer
	h := newHTML(&out, Options{})
	if err := h.Begin([]string{"score", "first_time", "remote", "exe", "cmdline", "user"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		column int
		value  Value
		want   string
	}{
		{0, Value{Kind: Real, Real: 100}, `<td class="n">100.0</td>`},
		{1, TextValue("2026-07-01T12:00:00.123456789+02:00, and more that is long"), "<td>2026-07-01T12:00:00.123456789+02:00, and more that is long</td>"},
		{2, TextValue("[2001:db8:1111:2222:3333:4444:5555:6666]:65535"), "<td>[2001:db8:1111:2222:3333:4444:5555:6666]:65535</td>"},
		{2, TextValue("/run/user/1000/containers/podman/podman.socket"), `<td class="w">/<wbr>run/<wbr>user/<wbr>1000/<wbr>containers/<wbr>podman/<wbr>podman.socket</td>`},
		{3, TextValue("/usr/bin/curl"), "<td>/usr/bin/curl</td>"},
		{4, TextValue("curl 'https://example.org/a?b=c&d=<e>' --output /dev/null"), `<td class="w">curl &#39;https:<wbr>//<wbr>example.org/<wbr>a?<wbr>b=<wbr>c&amp;d=<wbr>&lt;e&gt;&#39; --output /<wbr>dev/<wbr>null</td>`},
		{5, TextValue("www-data"), "<td>www-data</td>"},
		{5, Value{Kind: Null}, "<td></td>"},
	} {
		if got := string(h.AppendCell(nil, c.column, c.value)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// One column that is empty is still a record.
func TestCSVEmptyRecord(t *testing.T) {
	var out bytes.Buffer
	w := newCSV(&out, false)
	for _, err := range []error{w.Begin([]string{"a"}), w.Row([]Value{{Kind: Null}}), w.Row([]Value{{Kind: Text}}), w.End("")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if rows, err := csv.NewReader(&out).ReadAll(); err != nil || len(rows) != 3 {
		t.Errorf("got %q, %v", rows, err)
	}
}

// JSON holds every text as it was; only bytes that are not UTF-8 are escaped.
func TestJSONReadsBack(t *testing.T) {
	var whole struct {
		Columns []string
		Rows    []map[string]any
		Cut     *string
	}
	if err := json.Unmarshal(writeHostile(t, "json", Options{}), &whole); err != nil {
		t.Fatal(err)
	}
	if whole.Cut == nil || *whole.Cut != "row limit of 3" || len(whole.Rows) != len(hostile()) {
		t.Fatalf("cut %v, %d rows", whole.Cut, len(whole.Rows))
	}
	if got := strings.Join(whole.Columns, "|"); got != "n|name|x|x_2|=1+1\x1b[0m" {
		t.Errorf("columns %q", got)
	}
	for i, s := range hostile() {
		if utf8.ValidString(s) && whole.Rows[i]["name"] != s {
			t.Errorf("got %q, want %q", whole.Rows[i]["name"], s)
		}
		if whole.Rows[i]["x"] != nil || whole.Rows[i]["x_2"] != float64(i)/4 {
			t.Errorf("row %d: %v", i, whole.Rows[i])
		}
	}
}

func TestJSONWithoutRows(t *testing.T) {
	var out bytes.Buffer
	w := newJSON(&out, nil)
	if err := w.Begin([]string{"a"}); err != nil {
		t.Fatal(err)
	}
	if err := w.End(""); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(out.Bytes()) || !strings.Contains(out.String(), `"cut": null`) {
		t.Errorf("got %s", out.String())
	}
}

// No line of a table is wider than the terminal while its columns fit at all.
func TestTableFits(t *testing.T) {
	for width := 76; width < 200; width += 7 {
		var out bytes.Buffer
		w := newTable(&out, Options{Width: width})
		_ = w.Begin([]string{"time", "pid", "comm", "remote", "cmdline"})
		for range pageRows + 3 {
			_ = w.Row([]Value{{Kind: Text, Bytes: []byte("2026-07-01T12:00:00.123456789Z")}, {Kind: Integer, Int: 4194304},
				{Kind: Text, Bytes: []byte("日本語日本語日本")}, {Kind: Text, Bytes: []byte("[2001:db8:1:2:3:4:5:6]:65535")},
				{Kind: Text, Bytes: []byte(strings.Repeat("x ", 200))}})
		}
		_ = w.End("")
		for line := range strings.Lines(out.String()) {
			if n := displayWidth(strings.TrimSuffix(line, "\n")); n > width {
				t.Fatalf("width %d: a line of %d: %s", width, n, line)
			}
		}
		rows, hidden, _ := strings.Cut(out.String(), "… not shown")
		if got := strings.Count(rows, "\n"); got != pageRows+3+2 || strings.Contains(rows, "cmdline") == strings.Contains(hidden, "cmdline") {
			t.Fatalf("width %d: %d lines", width, got)
		}
	}
}

func FuzzSafe(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		safe := escape.Safe(s)
		if unsafeAt([]byte(safe)) >= 0 || strings.ContainsAny(safe, "\n\t") {
			t.Fatalf("%q becomes %q", s, safe)
		}
		if escape.Safe(safe) != safe {
			t.Fatalf("%q is escaped twice", s)
		}
		if !json.Valid(appendJSONText(nil, []byte(s))) {
			t.Fatalf("%q is not valid JSON", s)
		}
	})
}

func TestInZone(t *testing.T) {
	zone, err := input.ParseZone("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := InZone(newCSV(&out, false), zone)
	_ = w.Begin([]string{"time", "comm", "last_time"})
	cell := func(s string) Value { return Value{Kind: Text, Bytes: []byte(s)} }
	_ = w.Row([]Value{cell("2026-07-01T12:00:00.000000001Z"), cell("2026-07-01T12:00:00.000000001Z"), {Kind: Null}})
	_ = w.Row([]Value{cell("not a time at all, 30 letters."), cell(""), cell("2026-07-01T22:00:00.500000000Z")})
	_ = w.End("")
	const want = "time,comm,last_time\n" +
		"2026-07-01T21:00:00.000000001+09:00,2026-07-01T12:00:00.000000001Z,\n" +
		"\"not a time at all, 30 letters.\",,2026-07-02T07:00:00.500000000+09:00\n"
	if out.String() != want {
		t.Errorf("got %s", out.String())
	}
}
