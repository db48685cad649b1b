package segment

import (
	"context"
	"os"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/tapedir"
)

// Stillborn reports whether a recorder was killed while it made this file: it has its first mode and no table. We hold
// the tape's lock, so no recorder is making it now.
func Stillborn(ctx context.Context, path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != tapedir.BirthMode {
		return false
	}
	return Empty(ctx, path)
}

// Empty reports whether a regular file has no table: a recorder had only begun to make it. A copy of it may have another mode.
func Empty(ctx context.Context, path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	if info.Size() == 0 {
		return true
	}
	objects := int64(-1)
	err = Peek(ctx, path, func(conn *sqlite.Conn) error {
		return Exec(conn, func(q *sqlite.Stmt) error { objects = q.ColumnInt64(0); return nil },
			`SELECT count(*) FROM sqlite_schema`)
	})
	return err == nil && objects == 0
}
