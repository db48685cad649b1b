package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/conntape/conntape"

// allowedImports is which package of this module may import which. It is a line that points one way: cmd to recorder and
// query, those to store, that to its rooms, and recorder to bpf; docs is text alone, and generate makes up what the
// demonstration writes. The command opens the tape that it hands to query, so it may import store too. The rooms of the
// store: escape, failure, sqlitefile, posting, trusted and tapelog know nothing of each other; tapedir knows where files lie.
func allowedImports() map[string][]string {
	return map[string][]string{
		"cmd/conntape-witness": {"witness"},
		"witness":              {},
		"cmd/conntape-metrics": {"metrics"},
		"metrics":              {},
		"doctor":               {"bpf", "recorder", "store", "store/retain", "store/segment", "store/tapedir", "store/trusted"},
		"cmd/conntape":         {"doctor", "generate", "query", "query/ask", "query/coverage", "query/format", "query/indicator", "query/input", "query/report", "query/table", "recorder", "store", "store/escape", "store/failure", "store/proof", "store/retain", "store/segment", "store/tapedir", "store/trusted"},
		"recorder":             {"bpf", "recorder/dns", "recorder/hash", "recorder/hello", "store", "store/escape", "store/retain", "store/segment", "store/tapelog"},
		"recorder/dns":         {"store/escape"},
		"recorder/hash":        {},
		"recorder/hello":       {"recorder/dns"},
		"query":                {"docs", "query/ask", "query/format", "query/input", "query/report"},
		"query/report":         {"query/ask", "query/coverage", "query/format", "query/indicator", "query/input", "query/pairs", "query/table", "store", "store/failure"},
		"query/table":          {"query/ask", "query/coverage", "query/format", "query/input", "query/pairs", "query/sqltext", "store", "store/failure", "store/posting", "store/segment"},
		"query/ask":            {"query/format", "query/input", "store/escape", "store/segment"},
		"query/format":         {"query/coverage", "query/input", "query/parquet", "store/escape", "store/segment"},
		"query/coverage":       {"query/input", "store", "store/escape", "store/segment"},
		"query/input":          {},
		"query/pairs":          {},
		"query/indicator":      {},
		"query/parquet":        {},
		"query/sqltext":        {},
		"generate":             {"store", "store/segment"},
		"store":                {"migrations", "store/escape", "store/failure", "store/posting", "store/proof", "store/retain", "store/segment", "store/sqlitefile", "store/tapedir", "store/tapelog", "store/trusted"},
		"store/proof":          {"migrations", "store/escape", "store/failure", "store/posting", "store/segment", "store/sqlitefile", "store/tapedir", "store/tapelog", "store/trusted"},
		"store/retain":         {"store/segment", "store/sqlitefile", "store/tapedir"},
		"store/segment":        {"migrations", "store/escape", "store/failure", "store/posting", "store/sqlitefile", "store/tapedir"},
		"store/tapedir":        {"store/escape", "store/failure", "store/trusted"},
		"store/failure":        {"store/sqlitefile"},
		"store/tapelog":        {"store/tapelog/vault"},
		"migrations":           {},
		"docs":                 {},
		"bpf":                  {},

		"store/escape":        {},
		"store/posting":       {},
		"store/sqlitefile":    {},
		"store/tapelog/vault": {},
		"store/trusted":       {},
	}
}

// Packages that may use SQLite: the driver, and the library beneath it.
var (
	useDriver  = []string{"query/ask", "query/report", "query/table", "store", "store/failure", "store/proof", "store/segment"}
	useLibrary = []string{"store", "store/segment", "store/sqlitefile"}
)

func TestImportsPointOneWay(t *testing.T) {
	const form = `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`
	program := exec.Command("go", "list", "-deps", "-f", form, module+"/cmd/...")
	out, err := program.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name, ours := strings.CutPrefix(words[0], module+"/")
		if !ours {
			continue
		}
		allowed, known := allowedImports()[name]
		if !known {
			t.Errorf("%s is of no known place", name)
		}
		seen++
		for _, imported := range words[1:] {
			short, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.Contains(allowed, short) {
				t.Errorf("%s may not import %s", name, short)
			}
			if strings.HasPrefix(imported, "zombiezen.com/go/sqlite") && !slices.Contains(useDriver, name) ||
				strings.HasPrefix(imported, "modernc.org/") && !slices.Contains(useLibrary, name) {
				t.Errorf("%s may not import %s", name, imported)
			}
		}
	}
	if seen != len(allowedImports()) {
		t.Errorf("%d of %d packages found", seen, len(allowedImports()))
	}
}

// The program runs as root, and has no use for what the network brings with it.
func TestProgramHasNoHTTP(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"/cmd/conntape").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	packages := strings.Fields(string(out))
	for _, forbidden := range []string{"net/http", "crypto/tls"} {
		if slices.Contains(packages, forbidden) {
			t.Errorf("%s is in the program", forbidden)
		}
	}
	if !slices.Contains(packages, module+"/store") {
		t.Errorf("the packages of the program are %v", packages)
	}
}
