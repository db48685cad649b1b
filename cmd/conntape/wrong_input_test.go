package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/urfave/cli/v2"
)

const wrongInput = "testdata/wrong_input.golden"

// wrong_input.golden has wrong command lines with all of their output. UPDATE_SCRIPTS=1 rewrites the output; read the
// difference. A line "$ …" is typed, [n] is its exit code.
func TestWrongInput(t *testing.T) {
	text, err := os.ReadFile(wrongInput)
	if err != nil {
		t.Fatal(err)
	}
	tmp := wrongInputFiles(t)
	var got strings.Builder
	lines := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		typed, ok := strings.CutPrefix(line, "$ conntape ")
		switch {
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintln(&got, line)
			continue
		case !ok:
			continue
		}
		lines++
		h, stdout, stderr := world("")
		words := splitWords(strings.ReplaceAll(typed, "$TMP", tmp))
		code := h.report(h.run(context.Background(), words))
		said := strings.ReplaceAll(stderr.String(), tmp, "$TMP")
		fmt.Fprintf(&got, "%s\n[%d] %s", line, code, strings.ReplaceAll(said, "conntape: hint: ", "    hint: "))
		if stdout.Len() > 0 || strings.Count(said, "\n") > 2 || !strings.HasPrefix(said, "conntape: error: ") ||
			strings.ContainsFunc(said, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }) {
			t.Errorf("%s\nis not one error and perhaps a hint: %q, %q", line, stdout, said)
		}
		if code != exitFailed && code != exitUsage && code != exitDamaged {
			t.Errorf("%s: exit %d", line, code)
		}
	}
	if lines < 85 {
		t.Errorf("%d lines are typed, want 85", lines)
	}
	if os.Getenv("UPDATE_SCRIPTS") != "" {
		if err := os.WriteFile(wrongInput, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got.String() != string(text) {
		t.Errorf("differs from %s (UPDATE_SCRIPTS=1):\n%s", wrongInput, differingLines(string(text), got.String()))
	}
}

// wrongInputFiles makes the tapes and files that the table names.
func wrongInputFiles(t *testing.T) string {
	t.Helper()
	tmp := t.TempDir()
	if err := writeFixture(filepath.Join(tmp, "tape"), "plain"); err != nil {
		t.Fatal(err)
	}
	segment, err := os.ReadFile(filepath.Join(tmp, "tape", "00000001.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"empty", "damaged"} {
		if err := os.Mkdir(filepath.Join(tmp, dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"text.db": "this is no database\n", "half.db": string(segment[:len(segment)/3]), "damaged/00000001.db": string(segment[:5000]),
		"blank.sql": "-- nothing\n", "list.txt": "192.0.2.1\n", "words.txt": "hello world, this is prose\n", "two.sql": "select 1;\nselect 2;\n",
	} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tmp
}

// differingLines returns the lines that only one of two texts has.
func differingLines(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintln(&out, "- "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintln(&out, "+ "+line)
		}
	}
	return out.String()
}

// The help of a flag is a sentence of its own, whatever stands for the value.
func TestFlagHelpReads(t *testing.T) {
	fragments := strings.Fields("after and as at be before by from in is of on or than that then to until what when where which who whose why with within")
	walk(testApp(t).Commands, nil, func(path []string, c *cli.Command) {
		for _, flag := range c.Flags {
			_, usage := placeholder(flag.(cli.DocGenerationFlag).GetUsage())
			first, _, _ := strings.Cut(usage, " ")
			if usage == "" || !unicode.IsLetter([]rune(usage)[0]) || slices.Contains(fragments, first) {
				t.Errorf("%v --%s: %q begins in the middle of a sentence", path, flag.Names()[0], usage)
			}
		}
	})
}
