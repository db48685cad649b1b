package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// Sealing turns a segment that takes no more batches into one that is never
// written again. The recorded file is only closed: its WAL emptied, its state
// written. The index is built in a copy, which is checked as a whole,
// made durable, and takes the name of the file. So whatever fails leaves either
// the segment as it was recorded or the sealed one; a reader sees one or the
// other; and since the copy depends on the closed file alone, sealing that was
// interrupted ends with the same bytes when it is done again.
//
// The write bits of the file go last, after its hash was told: a sealed file that
// still has them is told again.

const sealingSuffix = ".sealing"

// errGivenUp: sealing was told to stop.
var errGivenUp = errors.New("given up")

// seal does all that is left to do for s. It belongs to the keeper, who alone
// touches the file meanwhile.
func (w *Writer) seal(s *stored) error {
	if !s.built {
		err := w.closeAndBuild(s)
		if failure.IsDamaged(err) && s.seg == nil {
			err = w.replaceDamaged(s, err)
		}
		if err != nil {
			os.Remove(s.path + sealingSuffix)
			os.Remove(s.path + sealingSuffix + "-journal")
			return err
		}
		s.built = true
	}
	e, err := describeSealed(s)
	if err != nil {
		return fmt.Errorf("hash segment: %w", err)
	}
	w.tell(e)
	if err := w.makeReadOnly(s.path); err != nil {
		return err
	}
	w.noteSealed(s.path, s.number)
	w.mu.Lock()
	s.sha, s.from, s.to, s.bytes = e.SHA256, e.From, e.To, e.Bytes
	s.tally = tally{e.Rows, e.Connects}
	s.state = sealed
	w.hashed = hashedSegment{s.number, e.SHA256}
	w.mu.Unlock()
	w.holdSealed(s)
	w.log.Info("segment sealed", "path", s.path, "rows", e.Rows, "bytes", e.Bytes)
	return nil
}

// closeAndBuild makes the sealed file out of the recorded one.
func (w *Writer) closeAndBuild(s *stored) error {
	if s.damage != nil {
		return s.damage
	}
	if err := w.closeForGood(s); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return w.build(s)
}

// closeForGood writes that the segment is closed, and empties its WAL.
func (w *Writer) closeForGood(s *stored) error {
	if s.seg == nil && tapedir.ClosedFile(s.path) {
		return nil // by a recorder that did not seal
	}
	if s.seg == nil {
		seg, err := continueSegment(s.path, s.number)
		if err != nil {
			return err
		}
		s.seg = seg
	}
	seg := s.seg
	if hash := w.hashOf(seg); seg.state != stateClosed || hash != nil {
		err := seg.inTransaction(func() error {
			return seg.exec(`UPDATE segment SET state = ?, closed_ns = coalesce(closed_ns, heartbeat_ns), previous_hash = coalesce(previous_hash, ?)`,
				stateClosed, hash)
		})
		if err != nil {
			return err
		}
		seg.state = stateClosed
	}
	if err := seg.close(); err != nil {
		return err
	}
	s.seg = nil
	bytes := allocatedAt(s.path)
	w.mu.Lock()
	defer w.mu.Unlock()
	s.bytes, s.closed = bytes, bytes
	return nil
}

// hashOf returns the hash of the segment before seg, nil when it is not known.
func (w *Writer) hashOf(seg *segment) any {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hashed.number != 0 && w.hashed.number == seg.previous {
		return w.hashed.sha[:]
	}
	return nil
}

// build makes the sealed copy and gives it the name of the segment.
func (w *Writer) build(s *stored) error {
	to := s.path + sealingSuffix
	for _, name := range []string{to, to + "-journal"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove unfinished copy: %w", err)
		}
	}
	from, err := tapedir.OpenForCopy(s.path)
	if err != nil {
		return fmt.Errorf("copy segment: %w", err)
	}
	err = copyFile(from, to)
	from.Close()
	if err != nil {
		return err
	}
	if err := buildSealed(to, filepath.Dir(to), s.stop); err != nil {
		return err
	}
	if err := sqlitefile.AppendSums(to); err != nil {
		return failure.Classify(err)
	}
	if err := tapedir.GiveToGroup(to, tapedir.FileMode); err != nil {
		return err
	}
	if err := tapedir.SyncFile(to); err != nil {
		return err
	}
	if s.givenUp() {
		return errGivenUp
	}
	if err := os.Rename(to, s.path); err != nil {
		return fmt.Errorf("put sealed segment in place: %w", failure.Bare(err))
	}
	return tapedir.SyncDir(w.dir)
}

// buildSealed adds the index to a database that nobody else has, and
// checks the whole of it. What is sorted on the way goes to a file in scratch.
func buildSealed(path, scratch string, stop <-chan struct{}) (err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return fmt.Errorf("open copy: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetInterrupt(stop)
	if err := setDefensive(conn); err != nil {
		return err
	}
	for _, pragma := range []string{
		"PRAGMA locking_mode = EXCLUSIVE",
		"PRAGMA trusted_schema = OFF",
		"PRAGMA cell_size_check = ON",
		"PRAGMA cache_size = -4096", // it is written from left to right
		"PRAGMA synchronous = OFF",  // it is synced as a whole
		"PRAGMA journal_mode = DELETE",
		"PRAGMA journal_mode = OFF", // a copy that is not finished is thrown away
	} {
		if err := execOn(conn, nil, pragma); err != nil {
			return fmt.Errorf("prepare copy: %w", err)
		}
	}
	version, err := schemaVersion(conn, "main")
	if err != nil {
		return err
	}
	if err := checkSchema(conn, "main", version); err != nil {
		return err
	}
	if err := addSeal(conn, version, scratch); err != nil {
		return fmt.Errorf("build index: %w", err)
	}
	return checkIntegrity(conn)
}

// addSeal makes and fills what sealing adds to a segment of that version. A file
// that it needs meanwhile is in scratch.
func addSeal(conn *sqlite.Conn, version int, scratch string) error {
	script, err := migrations.SealScript(version)
	if err != nil {
		return err
	}
	if err := execOn(conn, nil, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		return err
	}
	if err := execOn(conn, nil, "DELETE FROM block"); err != nil {
		return err
	}
	if err := pack(conn, scratch); err != nil {
		return err
	}
	return execOn(conn, nil, "COMMIT")
}

// checkIntegrity reads the whole database and compares its indexes with its rows.
func checkIntegrity(conn *sqlite.Conn) error {
	found := ""
	err := execOn(conn, func(q *sqlite.Stmt) error {
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

// describeSealed reads and hashes a sealed file that nobody has open.
func describeSealed(s *stored) (SegmentSealed, error) {
	e := SegmentSealed{Segment: s.number, File: tapedir.SegmentName(s.number)}
	err := peekAt(s.path, func(conn *sqlite.Conn) error {
		info := &openSegment{}
		if err := info.describe(conn); err != nil {
			return err
		}
		e.TapeID, e.BootID, e.Host = info.info.TapeID, info.info.BootID, info.info.Host
		e.From, e.To, e.Batches, e.Counters = info.info.From.UnixNano(), info.info.To.UnixNano(), info.batches, segmentCounters(info.runs)
		return execOn(conn, func(q *sqlite.Stmt) error {
			e.Rows, e.First, e.Last = q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnInt64(2)
			q.ColumnBytes(3, e.Chain[:])
			e.Connects = q.ColumnInt64(4)
			return nil
		}, `SELECT rows, coalesce(first_ns, 0), coalesce(last_ns, 0), (SELECT chain FROM batch ORDER BY id DESC LIMIT 1), connects FROM seal`)
	})
	if err != nil {
		return e, err
	}
	if e.PageSums, err = hashOfSums(s.path); err != nil {
		return e, err
	}
	e.SHA256, e.Bytes, err = hashFile(s.path, s.stop)
	return e, err
}

// hashFile returns the SHA-256 and the size of a file.
func hashFile(path string, stop <-chan struct{}) (sum [32]byte, size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
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
			return sum, size, errGivenUp
		default:
		}
	}
}

// makeReadOnly takes the write bits off a sealed file, and makes it immutable
// when that was asked for.
func (w *Writer) makeReadOnly(path string) error {
	if err := tapedir.GiveToGroup(path, tapedir.ClosedMode); err != nil {
		return err
	}
	if err := tapedir.SyncFile(path); err != nil {
		return err
	}
	if !w.o.Immutable {
		return nil
	}
	if err := tapedir.SetImmutable(path); err != nil {
		w.log.Warn("segment not made immutable", "path", path, "error", err)
	}
	return nil
}

// hasSeal reports whether a segment has what sealing adds.
func hasSeal(conn *sqlite.Conn) (found bool, err error) {
	err = execOn(conn, func(q *sqlite.Stmt) error { found = true; return nil },
		`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'seal'`)
	return found, err
}

// hashOfSums returns the hash of the page sums that a sealed file has.
func hashOfSums(path string) ([32]byte, error) {
	sums, err := sumsOf(path)
	if err != nil {
		return [32]byte{}, err
	}
	return sums.Hash(), nil
}

func sumsOf(path string) (*sqlitefile.Sums, error) {
	f, err := tapedir.OpenForCopy(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return sqlitefile.SumsOf(f)
}

// checkHasSums makes sure that a segment has page sums if it is sealed: without them its pages are not checked.
func checkHasSums(conn *sqlite.Conn, path string) error {
	sealed, err := hasSeal(conn)
	if err != nil || !sealed {
		return err
	}
	if _, err = sumsOf(path); errors.Is(err, sqlitefile.ErrNoSums) {
		return fmt.Errorf("%w: it is sealed, and %w", failure.ErrDamaged, err)
	}
	return failure.Classify(err)
}
