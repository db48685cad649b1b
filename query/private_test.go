package query

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// The tables of a segment are the business of package store/segment. These files of package table name them still; no other
// may, and one that does not any more is to be taken off the list.
func TestWhoNamesPrivateTables(t *testing.T) {
	known := []string{"table/blocks.go", "table/busiest.go", "table/cells.go", "table/choose.go", "table/compared.go", "table/cookies.go", "table/fate.go", "table/finals.go", "table/numbering.go", "table/source.go", "table/stream_segment.go"}
	private := regexp.MustCompile(`(FROM|JOIN)\s+(batch|block|boot|changed|clock|connection|endpoint|gap|late|posting|process|reach|renamed|repeat|run|seal|segment|shape|task)\b`)
	files, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if is, _ := filepath.Match("*/*_test.go", name); !is && private.Match(text) {
			found = append(found, name)
		}
	}
	if !slices.Equal(found, known) {
		t.Errorf("tables of a segment are named in %v, and were in %v", found, known)
	}
}
