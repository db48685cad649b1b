package store

import (
	"errors"
	"fmt"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
)

// applicationID is in the header of every segment ("CTap", big endian at byte
// 68): file(1) and we tell by it what the file is.
const applicationID = 0x43546170

// Feature bits of the format. A program that meets a compatible bit it does not
// know may read the segment and not write it; with an unknown incompatible bit
// it must not even read. None is in use yet.
const (
	knownCompatible   = 0
	knownIncompatible = 0
)

// schemaVersion reads the version of the schema of database db on conn, and
// makes sure that it is one of ours.
func schemaVersion(conn *sqlite.Conn, db string) (int, error) {
	var app, version int64
	for pragma, to := range map[string]*int64{"application_id": &app, "user_version": &version} {
		query := fmt.Sprintf("PRAGMA %s.%s", db, pragma)
		err := execOn(conn, func(s *sqlite.Stmt) error { *to = s.ColumnInt64(0); return nil }, query)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", pragma, err)
		}
	}
	switch {
	case app != applicationID:
		return 0, ErrNotSegment
	case version > migrations.Version:
		return 0, fmt.Errorf("%w: schema version %d", ErrIncompatible, version)
	case version < 1:
		return 0, ErrNotSegment
	}
	return int(version), nil
}

// checkSchema compares the schema of database db with what the migrations make,
// statement by statement. A tape comes from a host that may not be trusted: a
// view, trigger or index that is not ours is never run.
// What sealing adds is there as a whole or not at all.
func checkSchema(conn *sqlite.Conn, db string, version int) error {
	want, err := expectedSchema(version)
	if err != nil {
		return err
	}
	isSealed := false
	err = execOn(conn, func(*sqlite.Stmt) error { isSealed = true; return nil },
		fmt.Sprintf("SELECT 1 FROM %s.sqlite_schema WHERE name = 'seal'", db))
	if err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	if isSealed {
		if want, err = sealedSchema(version); err != nil {
			return err
		}
	}
	found := 0
	err = execOn(conn, func(s *sqlite.Stmt) error {
		name, sql := s.ColumnText(0), s.ColumnText(1)
		if name == "sqlite_stat1" || name == "sqlite_stat4" {
			return nil // hints for the planner
		}
		expected, ok := want[name]
		if !ok || expected != sql {
			return fmt.Errorf("%w: its schema has been altered at %q", ErrDamaged, Escape([]byte(name)))
		}
		found++
		return nil
	}, fmt.Sprintf("SELECT name, coalesce(sql, '') FROM %s.sqlite_schema", db))
	if err != nil {
		if errors.Is(err, ErrDamaged) {
			return err
		}
		return fmt.Errorf("read schema: %w", err)
	}
	if found != len(want) {
		return fmt.Errorf("%w: its schema is incomplete (%d of %d objects)", ErrDamaged, found, len(want))
	}
	return nil
}

// expectedSchema returns name → SQL of every object of a segment of that version
// that is not sealed, as SQLite writes them down.
func expectedSchema(version int) (map[string]string, error) {
	script, err := migrations.Script(version)
	if err != nil {
		return nil, err
	}
	return modelSchema(script)
}

// sealedSchema is expectedSchema of a sealed segment.
func sealedSchema(version int) (map[string]string, error) {
	script, err := migrations.Script(version)
	if err != nil {
		return nil, err
	}
	seal, err := migrations.SealScript(version)
	if err != nil {
		return nil, err
	}
	return modelSchema(script + seal)
}

// models are the schemas that scripts have made in this process: a script always
// makes the same, in 5 ms or more, and every segment of a tape is held to one.
var models sync.Map // of string to map[string]string

// modelSchema runs a script on an empty database and returns what comes of it,
// which is not to be changed.
func modelSchema(script string) (map[string]string, error) {
	if known, ok := models.Load(script); ok {
		return known.(map[string]string), nil
	}
	want, err := makeSchema(script)
	if err == nil {
		models.Store(script, want)
	}
	return want, err
}

func makeSchema(script string) (map[string]string, error) {
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, fmt.Errorf("open model schema: %w", err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		return nil, fmt.Errorf("run migrations: %w", err)
	}
	want := map[string]string{}
	err = execOn(conn, func(s *sqlite.Stmt) error {
		want[s.ColumnText(0)] = s.ColumnText(1)
		return nil
	}, "SELECT name, coalesce(sql, '') FROM sqlite_schema")
	if err != nil {
		return nil, fmt.Errorf("read model schema: %w", err)
	}
	return want, nil
}
