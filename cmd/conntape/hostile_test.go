package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/report"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// A tape that was made to harm its reader: its text was never escaped. Every command shows it as text, and only as text.
func TestHostileTape(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "gap"); err != nil {
		t.Fatal(err)
	}
	conn, err := sqlite.OpenConn(filepath.Join(tape, "00000001.db"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	for _, poison := range []string{
		`UPDATE process SET comm = :x, exe = :x, cmdline = :x, cwd = :x, user = :x, ancestry = :x, source = :x`,
		`UPDATE task SET comm = :x, user = :x`,
		`UPDATE endpoint SET address = :x || id`,
		`UPDATE gap SET cause = :x, detail = :x`,
		`UPDATE segment SET host = :x`,
		`UPDATE boot SET kernel = :x, boot_id = :x`,
		`UPDATE run SET version = :x, backend = :x, blind_spots = :x`,
		`UPDATE counter SET name = :x WHERE name = 'lost'`,
	} {
		if err := sqlitex.Execute(conn, poison, &sqlitex.ExecOptions{Named: namedIf(poison, "evil"+hostileName)}); err != nil {
			t.Fatalf("%s: %v", poison, err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	commands := []string{"status|--format|text", "status|--format|json", "tail|--limit|4|--lines|4|--all", "tail|--limit|4|--lines|4|--format|jsonl"}
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("203.0.113.0/24 "+hostileName+"\n/tmp/"+hostileName+"\n0.0.0.0/0 evil\x1b[2J\u202e\xff\n\x1b]0;title\a nothing\n443\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	library, err := report.Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range format.Names() {
		if form == "parquet" {
			continue // holds texts as they are, and is refused at a terminal
		}
		for _, c := range library {
			line := c.Examples[0] + " --since 2026-06-30 --format " + form
			if c.Has("all") {
				line += " --all"
			}
			commands = append(commands, strings.ReplaceAll(strings.TrimPrefix(line, "conntape "), " ", "|"))
		}
		for _, what := range []string{"recent", "gaps", "sql|select * from connections", "sql|select * from processes", "sql|select * from endpoints",
			"sql|select * from gaps", "sql|select * from segments", "sql|select * from connections where 0"} {
			commands = append(commands, "query|"+what+"|--format|"+form)
		}
		commands = append(commands, "query|match|--indicators|"+list+"|--format|"+form, "query|match|--check|--indicators|"+list+"|--format|"+form)
	}
	for _, command := range commands {
		widths := []int{0, 60, 200}
		if strings.Contains(command, "--since") {
			widths = widths[1:2] // the canned queries are many
		}
		for _, width := range widths {
			h, stdout, stderr := world("")
			h.width = func() (int, bool) { return width, width > 0 }
			h.getenv = func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
			if code := h.report(h.run(context.Background(), append(strings.Split(command, "|"), "--dir", tape))); code != exitDone && code != exitFound {
				t.Errorf("%s: exit %d: %s", command, code, stderr)
			}
			for name, text := range map[string]string{"stdout": stdout.String(), "stderr": stderr.String()} {
				lines := strings.NewReplacer("\n", "", "\t", "").Replace(text)
				if !utf8.ValidString(text) || strings.ContainsFunc(lines, func(r rune) bool { return !unicode.IsGraphic(r) }) {
					t.Errorf("%s: %s is not safe to show: %q", command, name, text)
				}
			}
			if strings.HasSuffix(command, "json") && !json.Valid(stdout.Bytes()) {
				t.Errorf("%s: not valid JSON: %s", command, stdout)
			}
		}
	}
}

// namedIf returns the parameter :x when the statement has it.
func namedIf(sql, x string) map[string]any {
	if !strings.Contains(sql, ":x") {
		return nil
	}
	return map[string]any{":x": x}
}

// A tape whose views were replaced is refused.
func TestPlantedView(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "plain"); err != nil {
		t.Fatal(err)
	}
	conn, err := sqlite.OpenConn(filepath.Join(tape, "00000001.db"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteScript(conn, `DROP VIEW endpoints; CREATE VIEW endpoints AS SELECT 'PLANTED' AS address`, nil); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	h, stdout, stderr := world("")
	code := h.report(h.run(context.Background(), []string{"query", "sql", "select address from endpoints", "--dir", tape}))
	if code != exitDamaged || strings.Contains(stdout.String(), "PLANTED") {
		t.Errorf("exit %d, %s", code, stdout)
	}
	checkErrorLines(t, "planted view", stderr.String(), "damaged segment")
}
