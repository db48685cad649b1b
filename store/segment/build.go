package segment

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// ErrGivenUp means that sealing was told to stop.
var ErrGivenUp = errors.New("given up")

// BuildSealed writes a sealed segment into a file that begins with an empty database, from the recorded file. Nobody else may have either
// open. It marks the segment as closed, writes the hash of the previous segment if hashOf knows it, adds the index and checks the
// whole. It sorts in a file in scratch.
func BuildSealed(path, recorded, scratch string, hashOf func(number int) any, stop <-chan struct{}) (err error) {
	conn, err := OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenURI)
	if err != nil {
		return fmt.Errorf("open copy: %w", err)
	}
	defer func() { err = errors.Join(err, CloseConn(conn)) }()
	conn.SetInterrupt(stop)
	for _, pragma := range []string{
		"PRAGMA locking_mode = EXCLUSIVE",
		"PRAGMA journal_mode = OFF", // an unfinished copy is deleted
		"PRAGMA synchronous = OFF",  // synced as a whole afterwards
		"PRAGMA trusted_schema = OFF",
		"PRAGMA cell_size_check = ON",
		"PRAGMA cache_size = -4096", // written sequentially
	} {
		if err := Exec(conn, nil, pragma); err != nil {
			return fmt.Errorf("prepare copy: %w", err)
		}
	}
	if err := Defend(conn); err != nil { // from here on there is no other journal_mode
		return err
	}
	version, err := copyRecorded(conn, recorded, stop)
	if err != nil {
		return err
	}
	if err := writeClosed(conn, hashOf); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	if err := AddSeal(conn, version, scratch); err != nil {
		return fmt.Errorf("build index: %w", err)
	}
	return CheckIntegrity(conn)
}

// writeClosed marks a segment as closed, and writes the hash of the previous one if it is known.
func writeClosed(conn *sqlite.Conn, hashOf func(number int) any) error {
	previous, rows, features := 0, 0, error(nil)
	err := Exec(conn, func(q *sqlite.Stmt) error {
		rows++
		previous, features = q.ColumnInt(0), CheckFeatures(q.ColumnInt64(1), q.ColumnInt64(2))
		return nil
	}, `SELECT coalesce(previous_number, 0), compatible, incompatible FROM segment`)
	switch {
	case err != nil:
		return err
	case rows != 1:
		return ErrNoDescription
	case features != nil:
		return features
	}
	return Exec(conn, nil, `UPDATE segment SET state = 'closed', closed_ns = coalesce(closed_ns, heartbeat_ns), previous_hash = coalesce(previous_hash, ?)`,
		hashOf(previous))
}

// ErrNoDescription means that a segment's row in table segment is missing.
var ErrNoDescription = fmt.Errorf("%w: it does not describe itself", failure.ErrDamaged)

// CheckFeatures checks that this program knows all features of a segment and so may continue it. The error is
// ErrIncompatible.
func CheckFeatures(compatible, incompatible int64) error {
	if compatible&^KnownCompatible != 0 || incompatible&^KnownIncompatible != 0 {
		return fmt.Errorf("%w: feature bits %x/%x", failure.ErrIncompatible, compatible, incompatible)
	}
	return nil
}

// AddSeal creates and fills the tables added by sealing, for a segment of this version. Temporary files are in scratch.
func AddSeal(conn *sqlite.Conn, version int, scratch string) error {
	script, err := migrations.SealScript(version)
	if err != nil {
		return err
	}
	if err := Exec(conn, nil, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		return err
	}
	if err := Exec(conn, nil, "DELETE FROM block"); err != nil { // a salvaged segment may have some
		return err
	}
	if err := Pack(conn, scratch); err != nil {
		return err
	}
	return Exec(conn, nil, "COMMIT")
}

// CheckIntegrity reads the whole database and compares its indexes with its rows.
func CheckIntegrity(conn *sqlite.Conn) error {
	found := ""
	err := Exec(conn, func(q *sqlite.Stmt) error {
		if text := q.ColumnText(0); text != "ok" && found == "" {
			found = text
		}
		return nil
	}, "PRAGMA integrity_check(1)")
	if err != nil {
		return fmt.Errorf("check integrity: %w", err)
	}
	if found != "" {
		return fmt.Errorf("%w: %s", failure.ErrDamaged, escape.Bytes([]byte(found)))
	}
	return nil
}

// HasSeal reports whether a segment has the tables added by sealing.
func HasSeal(conn *sqlite.Conn) (found bool, err error) {
	err = Exec(conn, func(q *sqlite.Stmt) error { found = true; return nil },
		`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'seal'`)
	return found, err
}

// HashOfSums returns the hash of a sealed file's page sums.
func HashOfSums(path string) ([32]byte, error) {
	f, err := tapedir.OpenForCopy(path)
	if err != nil {
		return [32]byte{}, err
	}
	defer f.Close()
	sums, err := sqlitefile.SumsOf(f)
	if err != nil {
		return [32]byte{}, err
	}
	return sums.Hash(), nil
}

// checkHasSums checks that a sealed segment has page sums: without them its pages are not checked.
func checkHasSums(conn *sqlite.Conn, file *os.File) error {
	sealed, err := HasSeal(conn)
	if err != nil || !sealed {
		return err
	}
	if _, err = sqlitefile.SumsOf(file); errors.Is(err, sqlitefile.ErrNoSums) {
		return fmt.Errorf("%w: it is sealed, and %w", failure.ErrDamaged, err)
	}
	return failure.Classify(err)
}

// HashFile returns the SHA-256 and the size of a file.
func HashFile(path string, stop <-chan struct{}) (sum [32]byte, size int64, err error) {
	f, err := tapedir.OpenForCopy(path)
	if err != nil {
		return sum, 0, err
	}
	defer f.Close()
	h := sha256.New()
	for buffer := make([]byte, 1<<20); ; {
		n, err := f.Read(buffer)
		h.Write(buffer[:n])
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return [32]byte(h.Sum(nil)), size, nil
		case err != nil:
			return sum, size, err
		}
		select {
		case <-stop:
			return sum, size, ErrGivenUp
		default:
		}
	}
}
