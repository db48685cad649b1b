// Package migrations holds the numbered SQL files that make a segment.
//
// A segment keeps the schema that it was made with, because an upgrade must not rewrite evidence. So these files do not
// migrate a tape: run in order on an empty file, they make a segment of a given version. Readers know the views of every
// version. A released file is never edited; a change is a new file.
package migrations

import (
	"embed"
	"fmt"
	"io/fs"
	"strconv"
)

//go:embed *.sql seal/*.sql
var files embed.FS

// Version is the schema version that a new segment gets.
const Version = 1

// Script returns the SQL that turns an empty database into a segment of a version, 1 to [Version]: the files up to this
// number, in order.
func Script(version int) (string, error) {
	if version < 1 || version > Version {
		return "", fmt.Errorf("find schema version %d: this program knows 1 to %d", version, Version)
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return "", fmt.Errorf("list migrations: %w", err)
	}
	var script string
	for _, name := range names { // sorted
		n, err := strconv.Atoi(name[:4])
		if err != nil {
			return "", fmt.Errorf("read migration number of %s: %w", name, err)
		}
		if n > version {
			break
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read migration: %w", err)
		}
		script += string(text)
	}
	return script, nil
}

// SealScript returns the SQL that makes the tables added by sealing, for a segment of the given version.
func SealScript(version int) (string, error) {
	if version < 1 || version > Version {
		return "", fmt.Errorf("find schema version %d: this program knows 1 to %d", version, Version)
	}
	text, err := files.ReadFile(fmt.Sprintf("seal/%04d.sql", version))
	if err != nil {
		return "", fmt.Errorf("read what sealing adds: %w", err)
	}
	return string(text), nil
}
