package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/conntape/conntape/query/format"
)

// world returns a host without a process around it.
func world(stdin string) (h *host, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	return &host{
		stdin: strings.NewReader(stdin), stdout: stdout, stderr: stderr,
		now: func() time.Time { return noon }, getenv: func(string) string { return "" }, width: func() (int, bool) { return 0, false },
	}, stdout, stderr
}

// Wrong input gets one line and perhaps a hint, the right exit code, no output on stdout, and no panic.
func TestBadInput(t *testing.T) {
	tmp := t.TempDir()
	tape := filepath.Join(tmp, "tape")
	if err := writeFixture(tape, "plain"); err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	folder := func(name string) string {
		path := filepath.Join(tmp, name)
		if err := os.MkdirAll(path, 0o750); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(filepath.Join(tape, "00000001.db"))
	if err != nil {
		t.Fatal(err)
	}
	file("zeros.db", strings.Repeat("\x00", 8192))
	file("half.db", string(whole[:len(whole)/3]))
	file("text.db", "this is no database\n")
	folder("damaged")
	file("damaged/00000001.db", string(whole[:5000]))
	const sql = "query|sql|"
	const on = "|--dir|TAPE"
	for _, c := range []struct {
		line string
		code int
		want string // of the error, a regular expression
	}{
		// Commands.
		{"qurey", 2, `unknown command "qurey"`},
		{"query", 2, `needs a question`},
		{"query|recnt", 2, `unknown command "query recnt"`},
		{"query|\x1b[31m", 2, `unknown command`},
		{"--dir|x", 2, `no command given`},
		{"help|nothing", 2, `unknown command "nothing"`},
		{"version|x", 2, `takes no argument`},
		{"status|x", 2, `takes no argument`},
		{"query|list|x", 2, `takes no argument`},
		{"query|show", 2, `takes the name of one query`},
		{"query|show|nope", 2, `no canned query "nope"`},
		{"query|gaps|x", 2, `takes no such argument`},
		{"query|who", 2, `needs INDICATOR`},
		{"query|who|10.0.0.0/99" + on, 2, `"10.0.0.0/99" is neither an address nor a CIDR`},
		{"query|who|22|--port|ssh" + on, 2, `--port takes a whole number, not "ssh"`},
		{"query|top|proces" + on, 2, `WHAT cannot be "proces"`},
		{"query|top|user|port" + on, 2, `takes no such argument`},
		{"query|tree" + on, 2, `needs PROCESS`},
		{"query|tree|bash" + on, 2, `PROCESS takes a whole number`},
		{"query|diff|--since|1h|--base-since|soon" + on, 2, `cannot read time "soon"`},
		{"query|fanout|--all=perhaps" + on, 2, `takes no value`},
		{"query|schema|nope", 2, `no view "nope"`},
		// Flags.
		{"--nope", 2, `has no flag --nope`},
		{"query|recent|--lmit|3", 2, `conntape query recent has no flag --lmit`},
		{"query|list|--since|2h", 2, `query list has no flag --since`},
		{"query|recent|--limit", 2, `flag --limit needs a value`},
		{"query|recent|--limit|--dir|x", 2, `flag --limit needs a value`},
		{"query|recent|--limit|many", 2, `--limit takes a whole number`},
		{"query|recent|--limit=-1", 2, `--limit takes a whole number`},
		{"query|recent|--limit|1.5", 2, `--limit takes a whole number`},
		{"query|recent|--limit|99999999999999999999", 2, `too large`},
		{"query|recent|--quiet=perhaps", 2, `takes no value`},
		{"query|recent|--format|xml", 2, `unknown format "xml"`},
		{"query|recent|--format|", 2, `unknown format ""`},
		{"status|--format|csv", 2, `unknown format "csv"`},
		{"version|--format|yaml", 2, `unknown format "yaml"`},
		{"query|recent|--tz|Mars/Olympus", 2, `unknown time zone`},
		{"query|recent|--tz|../../etc/passwd", 2, `unknown time zone`},
		{"query|recent|--timeout|soon", 2, `cannot read duration "soon"`},
		{"query|recent|--timeout|-5s", 2, `cannot read duration`},
		{"query|recent|--timeout|0s", 2, `--timeout`},
		{"query|recent|--dir|", 2, `--dir is empty`},
		// Times.
		{"query|recent|--since|tomorrow", 2, `cannot read time "tomorrow"`},
		{"query|recent|--since|", 2, `--since is empty`},
		{"query|recent|--until|2026-02-30", 2, `there is no such day`},
		{"query|recent|--since|25:00", 2, `there is no such time of day`},
		{"query|recent|--since|5", 2, `unix times have`},
		{"query|recent|--since|1h|--until|2h", 2, `the window is empty`},
		{"query|recent|--since|\x1b]0;x\a", 2, `cannot read time`},
		// SQL.
		{sql + on, 2, `SQL is empty|no SQL`},
		{"query|sql" + on, 2, `no SQL was given`},
		{sql + "-- only a comment" + on, 2, `the SQL is empty`},
		{sql + "select 1|select 2" + on, 2, `takes one argument`},
		{sql + "select 1; select 2" + on, 2, `more than one statement`},
		{sql + "selec 1" + on, 2, `syntax error`},
		{sql + "select \x1b[31m" + on, 2, `the SQL is wrong`},
		{sql + "select 'a\x00b'" + on, 2, `NUL`},
		{sql + "select nope from connections" + on, 2, `no such column: nope`},
		{sql + "select * from nope" + on, 2, `no such table: nope`},
		{sql + "select nope(1)" + on, 2, `no such function`},
		{sql + "select cidr_match('1.2.3.4', 'x')" + on, 2, `"x" is neither an address nor a CIDR`},
		{sql + "select ns('tomorrow')" + on, 2, `cannot read time "tomorrow"`},
		{sql + "select :a" + on, 2, `parameter :a without a value`},
		{sql + "select ?" + on, 2, `parameter without a name`},
		{sql + "select 1|--param|a=1" + on, 2, `no parameter :a`},
		{sql + "select 1|--param|a" + on, 2, `cannot read parameter "a"`},
		{sql + "drop view connections" + on, 2, `reader may not|wrong`},
		{sql + "begin" + on, 2, `not authorized`},
		{sql + "pragma journal_mode=delete" + on, 2, `not authorized`},
		{sql + "select abs(-9223372036854775808)" + on, 1, `integer overflow`},
		{sql + "select zeroblob(1000000000)" + on, 1, `too big`},
		{sql + "select 1|--file|nowhere.sql" + on, 2, `both`},
		{"query|sql|--file|nowhere.sql" + on, 2, `nowhere.sql`},
		{"query|sql|--file|TMP" + on, 2, `is a directory`},
		{"query|sql|-" + on, 2, `the SQL is empty`},
		// Tapes.
		{"query|recent|--dir|TMP/nowhere", 1, `no tape here`},
		{"query|recent|--dir|EMPTY", 1, `no tape here`},
		{"status|--dir|TMP/nowhere\x1b[31m\nx", 1, `no tape here`},
		{"status|--dir|TMP/zeros.db", 1, `zeros.db`},
		{"status|--dir|TMP/half.db", 5, `half.db`},
		{"status|--dir|TMP/text.db", 1, `text.db`},
		{"query|recent|--dir|TMP/damaged", 5, `damaged`},
		{"query|recent|--dir|/dev/null", 1, `/dev/null`},
		// Recording: refused before anything is started.
		{"record|x", 2, `takes no argument`},
		{"record|--backend|ebpf", 2, `unknown backend "ebpf"`},
		{"record|--batch-age|0s", 2, `more than nothing`},
		{"record|--batch-age|1", 2, `cannot read duration`},
		{"record|--batch-rows|0", 2, `--batch-rows must be`},
		{"record|--buffer|1", 2, `too small`},
		{"record|--buffer|lots", 2, `cannot read size`},
		{"record|--buffer|99999999999999999999", 2, `too large`},
		{"record|--ring|3MiB", 2, `not a power of two`},
		{"record|--ring|4GiB", 2, `too large`},
		{"record|--dir|", 2, `--dir is empty`},
	} {
		line := strings.NewReplacer("TAPE", tape, "TMP", tmp, "EMPTY", folder("empty")).Replace(c.line)
		h, stdout, stderr := world("")
		code := h.report(h.run(context.Background(), strings.Split(line, "|")))
		if code != c.code {
			t.Errorf("%q: exit %d, want %d: %s", c.line, code, c.code, stderr)
		}
		checkErrorLines(t, c.line, stderr.String(), c.want)
		if c.code == exitUsage && stdout.Len() > 0 {
			t.Errorf("%q: wrote to stdout: %q", c.line, stdout)
		}
	}
}

// checkErrorLines checks that stderr has the form of an error.
func checkErrorLines(t *testing.T, line, stderr, want string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	ok := strings.HasPrefix(lines[0], "conntape: error: ") &&
		(len(lines) == 1 || len(lines) == 2 && strings.HasPrefix(lines[1], "conntape: hint: "))
	if !ok || strings.ContainsFunc(strings.Join(lines, ""), func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }) {
		t.Errorf("%q: stderr is not one error and perhaps a hint: %q", line, stderr)
	}
	if !regexp.MustCompile(want).MatchString(stderr) {
		t.Errorf("%q: error %q does not match %q", line, stderr, want)
	}
}

// A failing stdout or stdin is reported in one line; a reader of stdout that went away is not reported.
func TestStreamsFail(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "many"); err != nil {
		t.Fatal(err)
	}
	for _, form := range format.Names() {
		h, _, stderr := world("")
		h.stdout = failingWriter{errors.New("no space left on device")}
		err := h.run(context.Background(), []string{"query", "sql", "select * from connections", "--dir", tape, "--format", form})
		if code := h.report(err); code != exitFailed {
			t.Errorf("%s: exit %d", form, code)
		}
		checkErrorLines(t, form, stderr.String(), "no space left")

		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		h, _, stderr = world("")
		h.stdout = write
		err = h.run(context.Background(), []string{"query", "sql", "select * from connections", "--dir", tape, "--format", form})
		if code := h.report(err); code != exitDone || stderr.Len() > 0 {
			t.Errorf("%s into a closed pipe: exit %d, %s", form, code, stderr)
		}
		write.Close()
	}
	h, _, stderr := world("")
	h.stdin = io.MultiReader(strings.NewReader("select"), failingReader{})
	if code := h.report(h.run(context.Background(), []string{"query", "sql", "-", "--dir", tape})); code != exitUsage {
		t.Errorf("stdin: exit %d: %s", code, stderr)
	}
	h, _, stderr = world(strings.Repeat("select 1 union ", mostSQL/8))
	h.report(h.run(context.Background(), []string{"query", "sql", "-", "--dir", tape}))
	checkErrorLines(t, "long SQL", stderr.String(), "longer than")
}

// A command whose context ends stops at once and leaves no answer that looks complete.
func TestInterrupted(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "many"); err != nil {
		t.Fatal(err)
	}
	h, stdout, _ := world("")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(100*time.Millisecond, func() { cancel(errors.New("enough")) })
	start := time.Now()
	err := h.run(ctx, []string{"query", "sql", "select count(*) from connections a, connections b, connections c", "--dir", tape, "--format", "json"})
	if err == nil || err.Error() != "enough" || time.Since(start) > 5*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
	if strings.HasSuffix(stdout.String(), "}\n") {
		t.Errorf("the answer is closed: %s", stdout)
	}

	folder := t.TempDir()
	h, _, _ = world("")
	ctx, cancel = context.WithCancelCause(context.Background())
	h.now = func() time.Time { cancel(errors.New("enough")); return time.Time{} } // before the question begins
	err = h.run(ctx, []string{"export", "--dir", tape, "--output", filepath.Join(folder, "x.json")})
	if err == nil || err.Error() != "enough" {
		t.Errorf("export: got %v", err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("export left %v, %v", left, err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("input/output error") }
