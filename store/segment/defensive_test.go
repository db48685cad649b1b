package segment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
)

func TestDefensiveModeKeepsTheSchemaFromBeingWritten(t *testing.T) {
	for _, defensive := range []bool{false, true} {
		conn, err := sqlite.OpenConn(filepath.Join(t.TempDir(), "a.db"), sqlite.OpenReadWrite|sqlite.OpenCreate)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if defensive {
			if err := Defend(conn); err != nil {
				t.Fatal(err)
			}
		}
		for _, sql := range []string{"CREATE TABLE t (a)", "PRAGMA writable_schema = ON"} {
			if err := Exec(conn, nil, sql); err != nil {
				t.Fatal(err)
			}
		}
		err = Exec(conn, nil, "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (b)' WHERE name = 't'")
		if refused := err != nil; refused != defensive {
			t.Errorf("defensive %v: writing the schema gives %v", defensive, err)
		}
	}
}

// The driver's own method writes to wild memory (see Defend).
func TestNobodyCallsTheDriversSetDefensive(t *testing.T) {
	files, err := filepath.Glob("../../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../*/*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no sources: %v", err)
	}
	for _, name := range append(files, more...) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), ".SetDefensive"+"(") {
			t.Errorf("%s calls SetDefensive", name)
		}
	}
}
