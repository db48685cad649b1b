package migrations

import (
	"io/fs"
	"strings"
	"testing"
)

// The files are numbered 0001, 0002, … without a hole, and Version is the last.
func TestNumbering(t *testing.T) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != Version {
		t.Fatalf("%d files, Version is %d", len(names), Version)
	}
	for i, name := range names {
		want := "000" + string(rune('1'+i)) + "_"
		if !strings.HasPrefix(name, want) {
			t.Errorf("file %d is %s, want prefix %s", i, name, want)
		}
	}
}

func TestScript(t *testing.T) {
	for _, bad := range []int{-1, 0, Version + 1} {
		if _, err := Script(bad); err == nil {
			t.Errorf("Script(%d): no error", bad)
		}
		if _, err := SealScript(bad); err == nil {
			t.Errorf("SealScript(%d): no error", bad)
		}
	}
	script, err := Script(Version)
	if err != nil {
		t.Fatal(err)
	}
	for _, view := range []string{"connections", "processes", "endpoints", "gaps", "segments", "inbound", "listeners", "sockets_opened", "lookups", "programs"} {
		if !strings.Contains(script, "CREATE VIEW "+view+" AS") {
			t.Errorf("no view %s", view)
		}
	}
}

// Every version can be sealed.
func TestSealScript(t *testing.T) {
	for version := 1; version <= Version; version++ {
		script, err := SealScript(version)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(script, "CREATE TABLE seal (") {
			t.Errorf("version %d has no table seal", version)
		}
	}
}
