package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// Readers never open the recorder's file with SQLite: they copy it, and the
// recorder does not notice. The copy is consistent for this reason:
//
//  1. the header of the WAL is read; its salts change whenever the recorder
//     begins the WAL anew;
//  2. the database is copied. Checkpoints may write pages meanwhile, so that the
//     copy holds pages of different ages. But a page that a checkpoint writes was
//     first, and durably, put into the WAL;
//  3. the WAL is copied. When its header is still the one of step 1, it was not
//     begun anew, and holds every page that a checkpoint wrote during step 2.
//     Replaying it over the copy makes every such page as young as the last
//     commit in it. Frames that are being written are cut off by their checksum.
//
// When the header changed, or the WAL shrank, or came to be, or the path leads to
// another file by then, all is done again. A segment whose WAL has no frames, or that
// has none, is copied too while its mode says that it may be continued; then the
// database must not have changed meanwhile. A segment goes from active to closed to
// sealed, each for a short while at most once: a copy that is begun anew with each
// change ends, however fast the segments follow each other.

// Limits of the tries to copy a segment that is written faster than it can be copied.
const (
	snapshotPatience = 30 * time.Second
	snapshotPause    = 20 * time.Millisecond
)

// Snapshot copies the segment at path to dir and returns the path of the copy, without WAL. When ctx ends it returns at
// once, with the cause.
func Snapshot(ctx context.Context, path, dir string) (string, error) {
	to := filepath.Join(dir, filepath.Base(path))
	err := copySegment(ctx, path, to)
	if err != nil {
		return "", err
	}
	if err := settle(ctx, to); err != nil {
		return "", err
	}
	return to, nil
}

// copySegment copies database and WAL until they match.
func copySegment(ctx context.Context, path, to string) error {
	for start := time.Now(); ; {
		err := copyOnce(ctx, path, to)
		if !errors.Is(err, failure.ErrMoved) {
			return err
		}
		if time.Since(start) > snapshotPatience {
			return fmt.Errorf("copy segment for %v: %w", snapshotPatience, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(snapshotPause):
		}
	}
}

func copyOnce(ctx context.Context, path, to string) error {
	before, err := readWALHeader(path + "-wal")
	if err != nil {
		return err
	}
	db, err := tapedir.OpenForCopy(path)
	if err != nil {
		return err
	}
	defer db.Close()
	was, err := db.Stat()
	if err != nil {
		return fmt.Errorf("copy segment: %w", err)
	}
	if before == nil && tapedir.JustChanged(was) {
		return failure.ErrMoved // another change would not be noticed
	}
	used, err := UsedBytes(db)
	if err != nil {
		return fmt.Errorf("copy segment: %w", err)
	}
	if err := CopyFile(ctx, db, to, used); err != nil {
		return err
	}
	if err := os.Truncate(to, max(used, was.Size())); err != nil { // else SQLite would reject its WAL
		return fmt.Errorf("copy segment: %w", err)
	}
	os.Remove(to + "-wal") // of an earlier try
	if before == nil {
		return unchanged(path, was)
	}
	wal, err := tapedir.OpenForCopy(path + "-wal")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return failure.ErrMoved
		}
		return err
	}
	defer wal.Close()
	if err := CopyFile(ctx, wal, to+"-wal", math.MaxInt64); err != nil {
		return err
	}
	copied, err := readWALHeader(to + "-wal")
	if err != nil {
		return err
	}
	after, err := readWALHeader(path + "-wal")
	if err != nil {
		return err
	}
	is, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, copied) || !bytes.Equal(before, after) || !os.SameFile(was, is) {
		return failure.ErrMoved
	}
	return nil
}

// unchanged checks that a database whose WAL had no frames was not written since.
func unchanged(path string, was fs.FileInfo) error {
	header, err := readWALHeader(path + "-wal")
	if err != nil {
		return err
	}
	is, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if header != nil || !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) || was.Size() != is.Size() {
		return failure.ErrMoved
	}
	return nil
}

// readWALHeader returns the first 32 bytes of a WAL, nil if it has no frame: there is none, or it is shorter, or begins
// with zeros, as the WAL that a segment takes over from another.
func readWALHeader(path string) ([]byte, error) {
	f, err := tapedir.OpenForCopy(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	header := make([]byte, sqlitefile.WALHeaderSize)
	switch _, err := io.ReadFull(f, header); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read WAL header: %w", err)
	case bytes.Equal(header, make([]byte, len(header))):
		return nil, nil
	}
	return header, nil
}

// CopyFile copies up to most bytes of from to a new file. It copies through memory: the kernel would share blocks where
// the file system can (xfs), and the recorder would need new blocks to overwrite its own, maybe on a full disk. When ctx
// ends CopyFile returns the cause, and leaves the partial copy.
func CopyFile(ctx context.Context, from *os.File, to string, most int64) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, tapedir.BirthMode)
	if err != nil {
		return fmt.Errorf("copy segment: %w", err)
	}
	if err := copyData(ctx, out, from, most); err != nil {
		out.Close()
		return fmt.Errorf("copy segment: %w", err)
	}
	return out.Close()
}

// UsedBytes returns the size of a database's pages by its header; the file's size if the header is invalid or the file
// has page sums.
func UsedBytes(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var header [100]byte
	if _, err := f.ReadAt(header[:], 0); err != nil {
		return info.Size(), nil // too short to be one
	}
	if _, err := sqlitefile.ReadSums(f, info.Size()); !errors.Is(err, sqlitefile.ErrNoSums) {
		return info.Size(), nil
	}
	pages := int64(binary.BigEndian.Uint32(header[28:]))
	if string(header[24:28]) != string(header[92:96]) || pages == 0 || pages*sqlitefile.PageSize > info.Size() {
		return info.Size(), nil
	}
	return pages * sqlitefile.PageSize, nil
}

// copyData copies the data of a file and skips its holes.
func copyData(ctx context.Context, out, from *os.File, most int64) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	size := min(most, info.Size()) // data appended during the copy does not count
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // the rest is a hole
		}
		end := size
		if err == nil {
			end, err = unix.Seek(int(from.Fd()), start, unix.SEEK_HOLE)
		} else {
			start = at // the file system does not report holes
		}
		if err != nil {
			end = size
		}
		if end = min(end, size); start >= end {
			break
		}
		if err := copyRange(ctx, out, from, start, end); err != nil {
			return err
		}
		at = end
	}
	return out.Truncate(size)
}

// copyRange copies a range of a file to the same offset of another.
func copyRange(ctx context.Context, out, from *os.File, start, end int64) error {
	for _, f := range []*os.File{out, from} {
		if _, err := f.Seek(start, io.SeekStart); err != nil {
			return err
		}
	}
	// The wrappers prevent a copy in the kernel. copyOnce notices a file that shrank.
	_, err := io.CopyBuffer(struct{ io.Writer }{out}, untilReader{ctx, io.LimitReader(from, end-start)}, make([]byte, 1<<18))
	return err
}

// untilReader ends with the cause when its context does.
type untilReader struct {
	ctx context.Context
	r   io.Reader
}

func (u untilReader) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

// settle moves the WAL of a copy into its database and removes it, so that the copy can be opened as immutable.
func settle(ctx context.Context, path string) error {
	conn, err := OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return fmt.Errorf("open copy: %w", err)
	}
	defer CloseConn(conn)
	conn.SetInterrupt(ctx.Done())
	if err := Defend(conn); err != nil {
		return err
	}
	for _, pragma := range []string{
		"PRAGMA locking_mode = EXCLUSIVE",
		"PRAGMA trusted_schema = OFF",
		"PRAGMA cell_size_check = ON",
		"PRAGMA synchronous = OFF", // a copy damaged by a crash is useless anyway
		"PRAGMA wal_checkpoint(TRUNCATE)",
		"PRAGMA journal_mode = DELETE",
	} {
		if err := Exec(conn, nil, pragma); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("settle copy: %w", err)
		}
	}
	return nil
}

// Peek calls fn with a read-only connection to a segment or a copy of it. Never use it on a file that this process has
// open. The end of ctx stops the copy, not fn.
func Peek(ctx context.Context, path string, fn func(*sqlite.Conn) error) error {
	if !NeedsSnapshot(path) {
		return PeekAt(path, fn)
	}
	dir, err := os.MkdirTemp("", "conntape-")
	if err != nil {
		return fmt.Errorf("make room for a copy: %w", err)
	}
	defer os.RemoveAll(dir)
	copied, err := Snapshot(ctx, path, dir)
	if err != nil {
		return err
	}
	return PeekAt(copied, fn)
}

// PeekAt is PeekInto the file at path.
func PeekAt(path string, fn func(*sqlite.Conn) error) error {
	file, err := tapedir.OpenForCopy(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return PeekInto(file, fn)
}

// PeekInto calls fn with a read-only connection to a file that nobody writes. It checks the pages of a sealed file.
func PeekInto(file *os.File, fn func(*sqlite.Conn) error) error {
	var watch sqlitefile.Watch
	defer watch.Close()
	uri, err := watch.URI(file, file.Name())
	if err != nil {
		return err
	}
	if err := peekURI(uri, fn); err != nil {
		return failure.ExplainDamage(err, &watch)
	}
	return nil
}

// PeekUnchecked is PeekInto for a file that is known to be altered, to read as much as SQLite can.
func PeekUnchecked(file *os.File, fn func(*sqlite.Conn) error) error {
	var watch sqlitefile.Watch
	defer watch.Close()
	uri, err := watch.UncheckedURI(file, file.Name())
	if err != nil {
		return err
	}
	return peekURI(uri, fn)
}

func peekURI(uri string, fn func(*sqlite.Conn) error) error {
	conn, err := OpenConn(uri, sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return err
	}
	defer CloseConn(conn)
	if err := Defend(conn); err != nil {
		return err
	}
	if err := Exec(conn, nil, "PRAGMA trusted_schema = OFF"); err != nil {
		return err
	}
	return fn(conn)
}

// NeedsSnapshot reports whether a segment may be written or has a WAL.
func NeedsSnapshot(path string) bool {
	if _, err := os.Lstat(path + "-wal"); err == nil {
		return true
	}
	return !tapedir.ClosedFile(path)
}
