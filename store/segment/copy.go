package segment

import (
	"errors"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// copyRecorded copies the tables of a recorded file into an empty database, row by row and each in its order: pages that
// were split while it was recorded are full then. What it writes depends on the rows alone.
func copyRecorded(conn *sqlite.Conn, recorded string, stop <-chan struct{}) (version int, err error) {
	file, err := tapedir.OpenForCopy(recorded)
	if err != nil {
		return 0, fmt.Errorf("copy segment: %w", err)
	}
	defer file.Close()
	var watch sqlitefile.Watch
	defer watch.Close()
	uri, err := watch.URI(file, file.Name())
	if err != nil {
		return 0, fmt.Errorf("copy segment: %w", err)
	}
	err = peekURI(uri, func(from *sqlite.Conn) (err error) {
		from.SetInterrupt(stop)
		if err := Exec(from, nil, "PRAGMA cell_size_check = ON"); err != nil {
			return err
		}
		if version, err = SchemaVersion(from); err != nil {
			return err
		}
		return errors.Join(CheckSchema(from, version), CheckIntegrity(from)) // of indexes the copy shows no damage
	})
	if err == nil {
		err = copyTables(conn, uri, version)
	}
	if err != nil {
		return 0, failure.ExplainDamage(err, &watch)
	}
	return version, nil
}

// folded are the tables that a folder copies if there are endings.
var folded = []string{"connection", "ending", "changed"}

func copyTables(conn *sqlite.Conn, uri string, version int) (err error) {
	script, err := migrations.Script(version)
	if err != nil {
		return err
	}
	script = fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;\n", ApplicationID, version) + script
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		return fmt.Errorf("make schema: %w", err)
	}
	if err := Exec(conn, nil, "ATTACH ? AS recorded", uri); err != nil {
		return fmt.Errorf("copy segment: %w", err)
	}
	defer func() { err = errors.Join(err, Exec(conn, nil, "DETACH recorded")) }()
	if err := Exec(conn, nil, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			Exec(conn, nil, "ROLLBACK")
		}
	}()
	var tables []string
	fold := false
	err = Exec(conn, func(q *sqlite.Stmt) error {
		tables, fold = append(tables, q.ColumnText(0)), q.ColumnBool(1)
		return nil
	}, `SELECT name, EXISTS (SELECT 1 FROM recorded.ending) FROM main.sqlite_schema WHERE type = 'table' AND name NOT IN ('block', 'sqlite_sequence') ORDER BY rowid`)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if fold && slices.Contains(folded, t) {
			continue
		}
		if err := Exec(conn, nil, "INSERT INTO main."+t+" SELECT * FROM recorded."+t); err != nil {
			return fmt.Errorf("copy %s: %w", t, err)
		}
	}
	if fold {
		f := folder{finals: map[int64]int64{}}
		if err := f.run(conn); err != nil {
			return fmt.Errorf("fold endings: %w", err)
		}
	}
	return Exec(conn, nil, "COMMIT")
}
