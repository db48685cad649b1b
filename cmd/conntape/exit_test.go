package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A script learns from the exit code how an answer ended.
func TestExitCodes(t *testing.T) {
	tape, file := filepath.Join(t.TempDir(), "tape"), filepath.Join(t.TempDir(), "answer.csv")
	if err := writeFixture(tape, "many"); err != nil {
		t.Fatal(err)
	}
	const forever = "with recursive n(i) as (select 1 union all select i + 1 from n) select "
	for _, c := range []struct {
		line string // words parted by bars
		code int
		want string // part of stderr
	}{
		{"query|recent", exitDone, ""},
		{"query|recent|--limit|3", exitDone, ""},
		{"query|sql|select * from connections|-n|3", exitDone, "cut after 3 rows: row limit"},
		{"query|sql|" + forever + "i from n|--timeout|50ms", exitCut, "rows: time limit of 50ms, there may be more"},
		{"query|sql|" + forever + "i from n|--timeout|50ms|--quiet", exitCut, "rows: time limit of 50ms, there may be more"},
		{"query|sql|" + forever + "max(i) from n|--timeout|50ms", exitCut, "cut after 0 rows: time limit"},
		{"query|sql|" + forever + "i from n|--timeout|50ms|--output|" + file, exitCut, "time limit"},
		{"export|--output|" + file + "|--timeout|0.001ms", exitCut, "time limit"},
		{"query|top|--timeout|0.001ms", exitCut, "time limit"},
		{"query|beacons|--timeout|0.001ms", exitCut, "time limit"},
		{"query|who|22|--timeout|0.001ms", exitCut, "time limit"},
		{"query|nope", exitUsage, "unknown command"},
	} {
		h, _, stderr := world("")
		words := append(strings.Split(c.line, "|"), "--dir", tape)
		if code := h.report(h.run(context.Background(), words)); code != c.code || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: exit %d, want %d: %s", c.line, code, c.code, stderr)
		}
	}
	h, _, stderr := world(".timeout 50ms\n" + forever + "max(i) from n;\nselect 1;\n")
	if code := h.report(h.run(context.Background(), []string{"query", "shell", "--dir", tape})); code != exitCut {
		t.Errorf("a shell with a cut answer: exit %d: %s", code, stderr)
	}
}

// The format of an answer is csv in a pipe, unless -t, --format in any case, or the
// environment say otherwise; a flag comes before the environment.
func TestFormatChosen(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "plain"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flags, variable, want string }{
		{"", "", "n\n4\n"},
		{"-t", "", "n\n─\n4\n"},
		{"--table", "", "n\n─\n4\n"},
		{"--format Table", "", "n\n─\n4\n"},
		{"--format JSONL", "", "{\"n\": 4}\n"},
		{"--format ndjson", "", "{\"n\": 4}\n"},
		{"--format MD", "", "| n |\n| --- |\n| 4 |\n"},
		{"", "table", "n\n─\n4\n"},
		{"", "TABLE", "n\n─\n4\n"},
		{"--format csv", "table", "n\n4\n"},
		{"-t", "jsonl", "n\n─\n4\n"},
	} {
		h, stdout, stderr := world("")
		h.getenv = func(name string) string { return map[string]string{formatVariable: c.variable}[name] }
		words := append([]string{"query", "sql", "select count(*) n from connections", "--dir", tape}, strings.Fields(c.flags)...)
		if code := h.report(h.run(context.Background(), words)); code != exitDone || stdout.String() != c.want {
			t.Errorf("%q with %q: exit %d, %q, %s", c.flags, c.variable, code, stdout, stderr)
		}
	}
	h, _, stderr := world("")
	h.getenv = func(name string) string { return map[string]string{formatVariable: "tabel"}[name] }
	code := h.report(h.run(context.Background(), []string{"query", "recent", "--dir", tape}))
	if want := `CONNTAPE_FORMAT in the environment: unknown format "tabel"`; code != exitUsage || !strings.Contains(stderr.String(), want) {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// What is meant is understood, though it is not what help says.
func TestMeantWords(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	for typed, meant := range map[string]string{
		"conntape beacons":                           "conntape query beacons",
		"conntape recent -n 3":                       "conntape query recent --limit 3",
		"conntape query top exes":                    "conntape query top process",
		"conntape query top Programs":                "conntape query top process",
		"conntape query top --what Port":             "conntape query top port",
		"conntape query top addresses":               "conntape query top destination",
		"conntape query first-seen pairs --since 2h": "conntape query first-seen pair --since 2h",
		"conntape query recent --since now-1h":       "conntape query recent --since 1h",
		"conntape query recent --since 1hr":          "conntape query recent --since 1h",
		"conntape query recent --since 2H":           "conntape query recent --since 2h",
		"conntape query recent --since 2:00pm":       "conntape query recent --since 14:00",
		"conntape query recent --since 2026-7-1":     "conntape query recent --since 2026-07-01",
	} {
		got, _ := askAt(t, tape, typed)
		want, _ := askAt(t, tape, meant)
		if got != want || got == "" {
			t.Errorf("%s: got\n%s\nwant, as of %s\n%s", typed, got, meant, want)
		}
	}
}

// tree and match fold a scan into one row, say so, and unfold it with --all.
func TestScansAreFolded(t *testing.T) {
	tape, list := filepath.Join(t.TempDir(), "tape"), filepath.Join(t.TempDir(), "list.txt")
	if err := writeFixture(tape, "many"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, []byte("10.0.0.0/8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"query tree 2000", "query match --indicators " + list} {
		for _, all := range []bool{false, true} {
			h, stdout, stderr := world("")
			words := append(strings.Fields(line), "--quiet", "--format", "csv", "--dir", tape)
			if all {
				words = append(words, "--all")
			}
			if code := h.report(h.run(context.Background(), words)); code != exitDone && code != exitFound {
				t.Fatalf("%s: exit %d: %s", line, code, stderr)
			}
			rows := strings.Count(stdout.String(), ":22")
			isFolded := strings.Contains(stdout.String(), "10.0.0.1:22 and 1999 other addresses") && strings.Contains(stderr.String(), "1999 rows of scans are folded into others; --all shows each")
			if isFolded == all || all && rows != 2000 || !all && rows != 1 {
				t.Errorf("%s, all %v: %d rows, %s\n%.500s", line, all, rows, stderr, stdout)
			}
		}
	}
}
