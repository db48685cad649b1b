package segment

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
)

// ApplicationID is in the header of every segment ("CTap", big endian at byte 68), for file(1) and for us.
const ApplicationID = 0x43546170

// Feature bits of the format. With an unknown compatible bit a program may read the segment but not write it; with an
// unknown incompatible bit it must not read it. None is in use yet.
const (
	KnownCompatible   = 0
	KnownIncompatible = 0
)

// SchemaVersion returns the version of a segment's schema, and checks that this program knows it.
func SchemaVersion(conn *sqlite.Conn) (int, error) {
	var app, version int64
	for pragma, to := range map[string]*int64{"application_id": &app, "user_version": &version} {
		query := "PRAGMA main." + pragma
		err := Exec(conn, func(s *sqlite.Stmt) error { *to = s.ColumnInt64(0); return nil }, query)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", pragma, err)
		}
	}
	switch {
	case app != ApplicationID:
		return 0, failure.ErrNotSegment
	case version > migrations.Version:
		return 0, fmt.Errorf("%w: schema version %d", failure.ErrIncompatible, version)
	case version < 1:
		return 0, failure.ErrNotSegment
	}
	return int(version), nil
}

// CheckSchema compares the schema of a segment with the migrations, statement by statement. A tape comes from a host
// that may not be trusted: a foreign view, trigger or index must never run. The tables added by sealing must all be
// there, or none.
func CheckSchema(conn *sqlite.Conn, version int) error {
	want, err := ExpectedSchema(version)
	if err != nil {
		return err
	}
	isSealed := false
	err = Exec(conn, func(*sqlite.Stmt) error { isSealed = true; return nil },
		"SELECT 1 FROM main.sqlite_schema WHERE name = 'seal'")
	if err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	if isSealed {
		if want, err = sealedSchema(version); err != nil {
			return err
		}
	}
	found := 0
	err = Exec(conn, func(s *sqlite.Stmt) error {
		name, sql := s.ColumnText(0), s.ColumnText(1)
		if name == "sqlite_stat1" || name == "sqlite_stat4" {
			return nil // hints for the planner
		}
		expected, ok := want[name]
		if !ok || expected != sql {
			return fmt.Errorf("%w: its schema has been altered at %q", failure.ErrDamaged, escape.Bytes([]byte(name)))
		}
		found++
		return nil
	}, "SELECT name, coalesce(sql, '') FROM main.sqlite_schema")
	if err != nil {
		if errors.Is(err, failure.ErrDamaged) {
			return err
		}
		return fmt.Errorf("read schema: %w", err)
	}
	if found != len(want) {
		return fmt.Errorf("%w: its schema is incomplete (%d of %d objects)", failure.ErrDamaged, found, len(want))
	}
	return nil
}

// ExpectedSchema returns name → SQL of every object of an unsealed segment of this version, as in sqlite_schema. Do not
// change it.
func ExpectedSchema(version int) (map[string]string, error) { return modelSchema(version, false) }

// sealedSchema is ExpectedSchema for a sealed segment.
func sealedSchema(version int) (map[string]string, error) { return modelSchema(version, true) }

// models caches schemas: all segments of a tape are compared with the same.
var models sync.Map // of model to map[string]string

// model identifies a schema.
type model struct {
	version int
	sealed  bool
}

func modelSchema(version int, sealed bool) (map[string]string, error) {
	if known, ok := models.Load(model{version, sealed}); ok {
		return known.(map[string]string), nil
	}
	script, err := migrations.Script(version)
	if err != nil {
		return nil, err
	}
	if sealed {
		seal, err := migrations.SealScript(version)
		if err != nil {
			return nil, err
		}
		script += seal
	}
	want := schemaOf(script)
	models.Store(model{version, sealed}, want)
	return want, nil
}

// schemaOf returns the content of sqlite_schema after a script of the migrations: each CREATE statement as it stands,
// and an index without SQL for each UNIQUE of a table. Asking SQLite took 10 ms of every program's start; a test does
// it.
func schemaOf(script string) map[string]string {
	want := map[string]string{}
	begin, at := -1, 0
	for line := range strings.Lines(script) {
		if begin < 0 && strings.HasPrefix(line, "CREATE ") {
			begin = at
		}
		code, _, _ := strings.Cut(line, "--")
		if end := strings.IndexByte(code, ';'); begin >= 0 && end >= 0 {
			statement := script[begin : at+end]
			name := strings.Fields(statement[:min(len(statement), 100)])[2]
			want[name] = statement
			for i := range strings.Count(statement, "\n  UNIQUE (") {
				want[fmt.Sprintf("sqlite_autoindex_%s_%d", name, i+1)] = ""
			}
			begin = -1
		}
		at += len(line)
	}
	return want
}
