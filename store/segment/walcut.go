package segment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/sqlitefile"
)

// When the fsync of a commit failed, the commit was reported as failed and its batch written again into the next
// segment, which stores how many commits of this segment count. But the frames of the commit may still be in the WAL. A
// reader cuts them off its copy so that no connection is read twice.

// SnapshotUpTo is Snapshot with only the first limit commits (-1: all).
func SnapshotUpTo(ctx context.Context, path, dir string, limit int64) (string, error) {
	if limit < 0 {
		return Snapshot(ctx, path, dir)
	}
	to := filepath.Join(dir, filepath.Base(path))
	for cut := 0; ; cut++ {
		if err := copySegment(ctx, path, to); err != nil {
			return "", err
		}
		if cut > 0 {
			if err := cutCommits(to+"-wal", cut); err != nil {
				return "", err
			}
		}
		if err := settle(ctx, to); err != nil {
			return "", err
		}
		var batches int64
		err := PeekAt(to, func(conn *sqlite.Conn) error {
			return Exec(conn, func(q *sqlite.Stmt) error { batches = q.ColumnInt64(0); return nil },
				`SELECT batches FROM segment`)
		})
		if err != nil || batches <= limit {
			return to, nil // describing it will report the damage
		}
	}
}

var errNoCommit = errors.New("no such commit in the WAL")

// cutCommits truncates a WAL before the last n commits that SQLite reads.
func cutCommits(path string, n int) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cut WAL: %w", err)
	}
	defer f.Close()
	wal, err := sqlitefile.OpenWAL(f, sqlitefile.PageSize)
	if errors.Is(err, sqlitefile.ErrNoWAL) {
		err = errNoCommit
	}
	if err != nil {
		return fmt.Errorf("cut WAL: %w", err)
	}
	ends := []int64{sqlitefile.WALHeaderSize} // after each commit
	for frame := range wal.Frames() {
		if !frame.Reached {
			break
		}
		if frame.Commit != 0 {
			ends = append(ends, wal.End(frame))
		}
	}
	if n >= len(ends) {
		return fmt.Errorf("cut WAL: %w", errNoCommit)
	}
	if err := f.Truncate(ends[len(ends)-1-n]); err != nil {
		return fmt.Errorf("cut WAL: %w", err)
	}
	return nil
}
