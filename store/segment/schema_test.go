package segment

import (
	"maps"
	"regexp"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
)

// The expected schema is the one that SQLite makes from the migrations.
func TestSchemaIsWhatSQLiteMakes(t *testing.T) {
	for version := 1; version <= migrations.Version; version++ {
		script, err := migrations.Script(version)
		if err != nil {
			t.Fatal(err)
		}
		seal, err := migrations.SealScript(version)
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range []string{script, script + seal} {
			conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite|sqlite.OpenCreate)
			if err != nil {
				t.Fatal(err)
			}
			if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
				t.Fatal(err)
			}
			made := map[string]string{}
			if err := Exec(conn, func(s *sqlite.Stmt) error {
				made[s.ColumnText(0)] = s.ColumnText(1)
				return nil
			}, "SELECT name, coalesce(sql, '') FROM sqlite_schema"); err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if got := schemaOf(script); len(made) < 10 || !maps.Equal(got, made) {
				t.Errorf("version %d: %d objects, not %d", version, len(got), len(made))
				for name, sql := range made {
					if got[name] != sql {
						t.Errorf("%s: got\n%q, not\n%q", name, got[name], sql)
					}
				}
			}
		}
	}
}

// In a public view, each FROM and JOIN is followed by a table or the view recording: readers use it to find the types of
// columns.
func TestViewsNameTables(t *testing.T) {
	for version := 1; version <= migrations.Version; version++ {
		schema, err := ExpectedSchema(version)
		if err != nil {
			t.Fatal(err)
		}
		for _, view := range Views {
			words := regexp.MustCompile(`(?:FROM|JOIN)\b\s*(\S*)`).FindAllStringSubmatch(schema[view], -1)
			if len(words) == 0 {
				t.Errorf("%s reads nothing", view)
			}
			for _, m := range words {
				if m[1] == "d" || m[1] == "(SELECT" { // the table of outcome's words
					continue
				}
				table := strings.TrimRight(m[1], ")")
				if !strings.HasPrefix(schema[table], "CREATE TABLE ") && table != "recording" || !strings.Contains("FROM JOIN ", m[0][:5]) {
					t.Errorf("%s: %q is no table", view, m[0])
				}
			}
		}
	}
}
