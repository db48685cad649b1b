package main

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The arrows of docs/architecture.md are the real imports; a package below another counts as that one.
func TestDiagram(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", module+"/...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		from := roomOf(words[0])
		for _, imported := range words[1:] {
			to := roomOf(imported)
			if from != "" && to != "" && from != to {
				want = append(want, from+" --> "+to)
			}
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	var got []string
	for _, arrow := range regexp.MustCompile(`(?m)^    (\S+ --> \S+)$`).FindAllStringSubmatch(readDoc(t, "architecture.md"), -1) {
		got = append(got, arrow[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/architecture.md has\n  %s\nand the sources have\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// roomOf returns the package of the diagram that a package is in, "" for what is not of the program.
func roomOf(path string) string {
	name, ours := strings.CutPrefix(path, module+"/")
	first, rest, _ := strings.Cut(name, "/")
	switch {
	case !ours, slices.Contains([]string{"bench", "packaging", "test"}, first):
		return ""
	case first == "cmd":
		return rest
	}
	return first
}
