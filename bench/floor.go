package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// floorStatement is the number of rows of an INSERT, as in the store.
const floorStatement = 50

// runFloor writes rows of a connection's size straight into a SQLite table, with the recorder's engine, pragmas and batch
// size: the limit for any recorder that stores rows in SQLite.
func runFloor(args []string) error {
	set := flag.NewFlagSet("floor", flag.ContinueOnError)
	dir := set.String("dir", "", "where to")
	rows := set.Int("rows", 1_000_000, "how many")
	if err := set.Parse(args); err != nil {
		return err
	}
	conn, err := sqlite.OpenConn(filepath.Join(*dir, "floor.db"), sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, statement := range []string{
		"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA cache_size = -16384",
		"CREATE TABLE connection (id INTEGER PRIMARY KEY, task INTEGER NOT NULL, remote INTEGER NOT NULL, shape INTEGER NOT NULL, local INTEGER, fd INTEGER, cookie INTEGER) STRICT",
	} {
		if err := sqlitex.ExecuteTransient(conn, statement, nil); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	insert, err := conn.Prepare("INSERT INTO connection VALUES (?,?,?,?,?,?,?)" + strings.Repeat(", (?,?,?,?,?,?,?)", floorStatement-1))
	if err != nil {
		return err
	}
	id := time.Now().UnixNano()
	for written := 0; written < *rows; {
		if err := sqlitex.ExecuteTransient(conn, "BEGIN", nil); err != nil {
			return err
		}
		for range batchRows / floorStatement {
			for slot := range floorStatement {
				id += 1500
				n := int64(written + slot)
				at := slot * 7
				insert.BindInt64(at+1, id)
				insert.BindInt64(at+2, n%500)
				insert.BindInt64(at+3, n*7919%5000)
				insert.BindInt64(at+4, 1)
				insert.BindNull(at + 5)
				insert.BindInt64(at+6, n%100)
				insert.BindInt64(at+7, n)
			}
			if _, err := insert.Step(); err != nil {
				return err
			}
			if err := insert.Reset(); err != nil {
				return err
			}
			written += floorStatement
		}
		if err := sqlitex.ExecuteTransient(conn, "COMMIT", nil); err != nil {
			return err
		}
	}
	return nil
}

// measureFloor returns the CPU time of a row at the floor, on the rig's processor.
func measureFloor(ctx context.Context, r *rig, rows int) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(r.dir, "floor-")
	if err != nil {
		return 0, err
	}
	cmd := r.pinned(ctx, self, "floor", "-dir", dir, "-rows", strconv.Itoa(rows))
	cmd.Stderr = os.Stderr
	if err := errors.Join(cmd.Run(), os.RemoveAll(dir)); err != nil {
		return 0, fmt.Errorf("measure the floor: %w", err)
	}
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()) / time.Duration(rows), nil
}
