package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/conntape/conntape"

// allowedImports is which package of this module may import which. It is a line
// that points one way: cmd to recorder and query, those to store, that to
// migrations and store/tapelog, and recorder to bpf; docs is text alone, and generate makes up what the demonstration writes. The command opens the tape that it hands to
// query, so it may import store too. SQLite is known to store and query alone,
// and to store/sqlitefile, which makes a VFS for it.
func allowedImports() map[string][]string {
	return map[string][]string{
		"cmd/conntape-witness": {"witness"},
		"cmd/conntape":         {"generate", "recorder", "query", "query/indicator", "store", "store/trusted"},
		"recorder":             {"bpf", "store"},
		"query":                {"docs", "query/indicator", "store", "store/posting"},
		"query/indicator":      {},
		"generate":             {"store"},
		"store":                {"migrations", "store/posting", "store/sqlitefile", "store/tapelog", "store/trusted"},
		"store/posting":        {},
		"store/tapelog":        {"store/tapelog/vault"},
		"migrations":           {},
		"witness":              {},
		"docs":                 {},
		"bpf":                  {},

		"store/sqlitefile":    {},
		"store/tapelog/vault": {},
		"store/trusted":       {},
	}
}

func TestImportsPointOneWay(t *testing.T) {
	const form = `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`
	list := []string{"list", "-f", form}
	for name := range allowedImports() {
		list = append(list, module+"/"+name)
	}
	out, err := exec.Command("go", list...).Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name := strings.TrimPrefix(words[0], module+"/")
		allowed := allowedImports()[name]
		seen++
		for _, imported := range words[1:] {
			short, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.Contains(allowed, short) {
				t.Errorf("%s may not import %s", name, short)
			}
			if (name == "query" || name == "cmd/conntape") && imported == "modernc.org/sqlite" || name != "store" && name != "query" && strings.HasPrefix(imported, "zombiezen.com/go/sqlite") ||
				name != "store" && name != "store/sqlitefile" && strings.HasPrefix(imported, "modernc.org/") {
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
