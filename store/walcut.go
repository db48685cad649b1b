package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
)

// A commit whose fsync failed was reported as failed, and its batch written
// again into the next segment, which keeps how many commits of this one count.
// But its frames may be in the WAL all the same. So that no connection is read
// twice, a reader cuts them off its copy.

// snapshotUpTo copies a segment, without commits beyond the first limit ones
// (-1: all).
func snapshotUpTo(path, dir string, limit int64) (string, error) {
	if limit < 0 {
		return snapshot(path, dir)
	}
	to := filepath.Join(dir, filepath.Base(path))
	for cut := 0; ; cut++ {
		if err := copySegment(path, to); err != nil {
			return "", err
		}
		if cut > 0 {
			if err := cutCommits(to+"-wal", cut); err != nil {
				return "", err
			}
		}
		if err := settle(to); err != nil {
			return "", err
		}
		var batches int64
		err := peekAt(to, func(conn *sqlite.Conn) error {
			return execOn(conn, func(q *sqlite.Stmt) error { batches = q.ColumnInt64(0); return nil },
				`SELECT batches FROM segment`)
		})
		if err != nil || batches <= limit {
			return to, nil // what is wrong with it is said when it is described
		}
	}
}

var errNoCommit = errors.New("no such commit in the WAL")

// cutCommits truncates a WAL so that its last n commits are gone. Format:
// https://sqlite.org/fileformat2.html#walformat. All numbers are big endian: the
// header has the page size at byte 8 and the salts at 16; each frame has 24 bytes
// before its page, with the database size at byte 4 (not 0 in the last frame of a
// commit) and the salts at 8.
func cutCommits(path string, n int) error {
	wal, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cut WAL: %w", err)
	}
	if len(wal) < walHeaderSize {
		return fmt.Errorf("cut WAL: %w", errNoCommit)
	}
	page := int(binary.BigEndian.Uint32(wal[8:]))
	if page < 512 || page > 65536 || page&(page-1) != 0 {
		return fmt.Errorf("cut WAL: %w: page size %d", ErrDamaged, page)
	}
	salts := string(wal[16:24])
	ends := []int{walHeaderSize} // after each commit
	for at := walHeaderSize; at+24+page <= len(wal); at += 24 + page {
		if string(wal[at+8:at+16]) != salts {
			break // of an earlier generation
		}
		if binary.BigEndian.Uint32(wal[at+4:]) != 0 {
			ends = append(ends, at+24+page)
		}
	}
	if n >= len(ends) {
		return fmt.Errorf("cut WAL: %w", errNoCommit)
	}
	if err := os.Truncate(path, int64(ends[len(ends)-1-n])); err != nil {
		return fmt.Errorf("cut WAL: %w", err)
	}
	return nil
}
