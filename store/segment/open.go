package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
)

// Reader reads a segment.
type Reader struct {
	Conn   *sqlite.Conn
	Tables *Tables
}

func (r *Reader) Close() error { return errors.Join(r.Conn.Close(), r.Tables.Close()) }

// Open opens the segment. If its file was replaced, as by sealing, the new one must be the same segment.
func (seg *Segment) Open() (*Reader, error) {
	told := seg.TableRoots() != nil // by the manifest
	if now, err := os.Lstat(seg.File); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrGone, filepath.Base(seg.Info.Path))
	} else if err == nil && !os.SameFile(now, seg.Stat) {
		again := &Segment{File: seg.File, Stat: now}
		if err := again.look(); err != nil {
			return nil, err
		}
		if again.Info.Number != seg.Info.Number || again.Info.TapeID != seg.Info.TapeID || again.Batches < seg.Batches {
			return nil, fmt.Errorf("%w: %s is another segment now", ErrGone, filepath.Base(seg.Info.Path))
		}
		seg.Stat, told = now, false
	}
	r := &Reader{}
	var err error
	if r.Tables, err = OpenTables(seg.File); err != nil {
		return nil, err
	}
	if r.Conn, err = seg.connect(); err == nil {
		err = r.Tables.Find(r.Conn)
	}
	if err == nil && !r.Tables.isAt(seg.File) {
		err = fmt.Errorf("%w: %s", ErrGone, filepath.Base(seg.Info.Path))
	}
	if err == nil && told {
		err = seg.checkTold(r)
	}
	if err != nil {
		if r.Conn != nil {
			r.Conn.Close()
		}
		r.Tables.Close()
		return nil, err
	}
	return r, nil
}

// connect opens a connection to the file, and checks that it has exactly our schema.
func (seg *Segment) connect() (*sqlite.Conn, error) {
	uri, err := seg.Watch.URI(seg.File)
	if err != nil {
		return nil, err
	}
	conn, err := sqlite.OpenConn(uri, sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return nil, err
	}
	err = Defend(conn)
	for _, pragma := range []string{"PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON", "PRAGMA cache_size = -1024"} {
		if err == nil {
			err = Exec(conn, nil, pragma)
		}
	}
	if err == nil {
		err = CheckSchema(conn, seg.Info.SchemaVersion)
	}
	if err == nil {
		err = Harden(conn)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// ErrGone means that a segment was removed during reading, as by retention. Reading continues without it, and
// [Tape.Coverage] lists it as left out.
var ErrGone = errors.New("it was removed while it was read")

// Segment is a segment of a tape that is read.
type Segment struct {
	Info           Info
	File           string      // file to open: the segment, or a private copy
	Stat           os.FileInfo // of File, when it was described
	Watch          sqlitefile.Watch
	Created        int64  // segment clock
	Boots          []Boot // in order, at least one
	Endings        IDSpan // those of connections in earlier segments
	Runs           []Recorder
	Gaps, Segments packed[[][]Cell]          // rows of the views with these names, if the manifest has them
	Roots          packed[map[string]uint32] // first pages of tables and indexes, if the manifest has them

	Batches  int64
	Previous int   // number of the previous segment
	Counts   int64 // commits of the previous segment that count; -1: all

}

// File is a file to read.
type File struct {
	Path   string
	Number int         // by its name; 0: another name
	Stat   os.FileInfo // nil: stat failed
	HasWAL bool
}

// IsClosed reports whether the file is never written again.
func (f *File) IsClosed() bool {
	return !f.HasWAL && f.Stat != nil && f.Stat.Mode().IsRegular() && f.Stat.Mode().Perm()&0o222 == 0
}

// Describe describes a segment that nobody writes, by its manifest entry if that counts.
func Describe(f File, entry Entry) (*Segment, error) {
	seg := &Segment{File: f.Path, Stat: f.Stat}
	seg.Info.Path, seg.Info.Bytes = f.Path, f.Stat.Size()
	if entry.Fill(seg) && (f.Number == 0 || seg.Info.Number == f.Number) {
		return seg, nil
	}
	seg = &Segment{File: f.Path, Stat: f.Stat, Info: Info{Path: f.Path, Bytes: f.Stat.Size()}}
	return seg, seg.look()
}

// look reads the description from the file, and checks that a sealed file has sums.
func (seg *Segment) look() error {
	return PeekAt(seg.File, func(conn *sqlite.Conn) error {
		if err := seg.Describe(conn); err != nil {
			return err
		}
		return checkHasSums(conn, seg.File)
	})
}

// DescribeCopy describes a segment that may be written, and opens a private copy of it. limit is the number of commits
// that count; -1: all. The copy lasts until ctx ends.
func DescribeCopy(ctx context.Context, path, copies string, limit int64) (*Segment, *Reader, error) {
	seg := &Segment{}
	seg.Info.Path, seg.Info.Snapshot = path, true
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Lstat(name); err == nil {
			seg.Info.Bytes += info.Size()
		}
	}
	var err error
	if seg.File, err = SnapshotUpTo(ctx, path, copies, limit); err != nil {
		return nil, nil, failure.Classify(err)
	}
	if seg.Stat, err = os.Lstat(seg.File); err != nil {
		return nil, nil, err
	}
	if err := seg.look(); err != nil {
		return nil, nil, err
	}
	r, err := seg.Open()
	return seg, r, err
}

// wall converts a time on a segment's clock to the wall clock.
func wall(ns, offset int64) time.Time { return time.Unix(0, ns+offset).UTC() }

// ErrVanished means that a segment was removed or sealed during reading.
var ErrVanished = errors.New("a segment was removed or sealed meanwhile")

// WallTime returns the time of ns since the Unix epoch, zero for 0.
func WallTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
