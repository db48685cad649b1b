package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// A page says where it comes from, with the signed head of a tape that has one.
func TestPageSaysItsOrigin(t *testing.T) {
	for _, kind := range []string{"plain", "logged"} {
		tape := filepath.Join(t.TempDir(), "tape")
		if err := writeFixture(tape, kind); err != nil {
			t.Fatal(err)
		}
		h, stdout, stderr := world("")
		words := []string{"query", "sql", "select exe from connections", "--since", "2026-07-01T00:00:00Z", "--format", "html", "--dir", tape}
		if code := h.report(h.run(context.Background(), words)); code != exitDone {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		head := "signed head</dt><dd><pre>none: "
		if kind == "logged" {
			head = "signed head</dt><dd><pre>conntape/"
		}
		for _, want := range []string{
			"<dt>host</dt><dd>web1</dd>", "<dd>conntape query sql &#39;select exe from connections&#39; --since 2026-07-01T00:00:00Z --format html --dir " + tape + "</dd>",
			"<dt>window</dt><dd>2026-07-01T00:00:00Z to the end</dd>", "<dt>exported</dt><dd>2026-07-01T12:00:00Z</dd>", "<dt>conntape</dt><dd>", "<dt>tape</dt><dd>", head,
		} {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%s: the page lacks %q:\n%s", kind, want, stdout)
			}
		}
	}
}

func TestCommandLine(t *testing.T) {
	for want, words := range map[string][]string{
		"conntape query recent":                       {"query", "recent"},
		`conntape query sql 'select '\''a b'\'''`:     {"query", "sql", "select 'a b'"},
		"conntape x ''":                               {"x", ""},
		"conntape query who '203.0.113.0/24; rm -rf'": {"query", "who", "203.0.113.0/24; rm -rf"},
	} {
		if got := commandLine(words); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
