package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// Reader reads a segment.
type Reader struct {
	Conn   *sqlite.Conn
	Tables *Tables
}

func (r *Reader) Close() error { return errors.Join(CloseConn(r.Conn), r.Tables.Close()) }

// Open opens the segment. If its file was replaced, as by sealing, the new one must be the same segment.
func (seg *Segment) Open() (*Reader, error) {
	file, err := tapedir.OpenForCopy(seg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrGone, filepath.Base(seg.Info.Path))
	}
	if err != nil {
		return nil, err
	}
	told := seg.told
	is, err := file.Stat()
	if err == nil && !seg.isFile(file, is) {
		if tapedir.SameFile(is, seg.Stat) && seg.Details() != nil {
			err = fmt.Errorf("%w: it was changed since it was sealed, or the file manifest is false about it (conntape verify tells)", failure.ErrDamaged)
		} else {
			told, err = false, seg.goOnWith(file)
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	r := &Reader{}
	if r.Tables, err = tablesOf(file); err != nil {
		return nil, err
	}
	if r.Conn, err = seg.connect(file); err == nil {
		err = r.Tables.Find(r.Conn)
	}
	if err == nil && told {
		err = seg.checkTold(r)
	}
	if err != nil {
		if r.Conn != nil {
			CloseConn(r.Conn)
		}
		r.Tables.Close()
		return nil, err
	}
	return r, nil
}

// goOnWith replaces the file of the segment by another one if that is the same segment, sealed since, or by the same one if its times have changed,
// which nothing tells more of.
func (seg *Segment) goOnWith(file *os.File) error {
	again := &Segment{File: seg.File}
	if err := again.lookInto(file); err != nil {
		return err
	}
	is, was := &again.Info, &seg.Info
	same := tapedir.SameFile(again.Stat, seg.Stat) // somebody may have changed its mode
	if is.Number != was.Number || is.TapeID != was.TapeID || is.First != was.First || is.Last != was.Last || again.Batches < seg.Batches || !isClosed(again.Stat) && !same {
		if same {
			return fmt.Errorf("%w: it was changed since it was sealed", failure.ErrDamaged)
		}
		return fmt.Errorf("%w: %s is another segment now", ErrGone, filepath.Base(seg.Info.Path))
	}
	seg.later.Store(&again.Stat)
	return nil
}

// connect opens a connection to the file, and checks that it has exactly our schema.
func (seg *Segment) connect(file *os.File) (*sqlite.Conn, error) {
	uri, err := seg.Watch.URI(file, seg.File)
	if err != nil {
		return nil, err
	}
	conn, err := OpenConn(uri, sqlite.OpenReadOnly|sqlite.OpenURI)
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
		CloseConn(conn)
		return nil, err
	}
	return conn, nil
}

// ErrGone means that a segment was removed during reading, as by retention. Reading continues without it, and
// [Tape.Coverage] lists it as left out.
var ErrGone = errors.New("it was removed while it was read")

// Segment is a segment of a tape that is read.
type Segment struct {
	Info    Info
	File    string      // file to open: the segment, or a private copy
	Stat    os.FileInfo // of File, when it was described
	Watch   sqlitefile.Watch
	Created int64  // segment clock
	Boots   []Boot // in order, at least one
	Endings IDSpan // those of connections in earlier segments
	Runs    []Recorder
	Gaps    PackedRows // of the view gaps, if the manifest has them
	told    bool       // by the manifest
	details toldDetails
	later   atomic.Pointer[os.FileInfo] // of the file that replaced File since, if it did

	Batches  int64
	Previous int   // number of the previous segment
	Counts   int64 // commits of the previous segment that count; -1: all
}

// File is a file to read.
type File struct {
	Path   string      // as the user knows it
	At     string      // to open it by
	Number int         // by its name; 0: another name, or not checked
	Stat   os.FileInfo // nil: stat failed
	HasWAL bool
}

// IsClosed reports whether the file is never written again.
func (f *File) IsClosed() bool {
	return !f.HasWAL && f.Stat != nil && isClosed(f.Stat)
}

func isClosed(info os.FileInfo) bool { return info.Mode().IsRegular() && info.Mode().Perm()&0o222 == 0 }

// Describe describes a segment that nobody writes: in seg, which is empty, by its manifest entry if that counts. The
// error is ErrNotClosed if the file was replaced by one that may be written.
func Describe(seg *Segment, f File, entry Entry) (*Segment, error) {
	seg.File, seg.Stat = f.At, f.Stat
	seg.Info.Path, seg.Info.Bytes = f.Path, f.Stat.Size()
	if entry.Fill(seg) && (f.Number == 0 || seg.Info.Number == f.Number) {
		return seg, nil
	}
	seg = &Segment{File: f.At, Info: Info{Path: f.Path}}
	if err := seg.look(); err != nil {
		return seg, err
	}
	if seg.Info.Bytes = seg.Stat.Size(); !isClosed(seg.Stat) {
		return seg, ErrNotClosed // its name leads to another file now
	}
	return seg, f.checkNumber(seg)
}

// checkNumber checks that the segment has the number of its name: the rows of a segment with two names would count twice.
func (f File) checkNumber(seg *Segment) error {
	if f.Number != 0 && seg.Info.Number != f.Number {
		return fmt.Errorf("%w: it says that it is segment %d", failure.ErrDamaged, seg.Info.Number)
	}
	return nil
}

// look opens the file for lookInto.
func (seg *Segment) look() error {
	file, err := tapedir.OpenForCopy(seg.File)
	if err != nil {
		return err
	}
	defer file.Close()
	return seg.lookInto(file)
}

// lookInto reads the description from the file, and checks that a sealed file has sums.
func (seg *Segment) lookInto(file *os.File) (err error) {
	if seg.Stat, err = file.Stat(); err != nil {
		return err
	}
	return PeekInto(file, func(conn *sqlite.Conn) error {
		if err := seg.Describe(conn); err != nil {
			return err
		}
		return checkHasSums(conn, file)
	})
}

// DescribeCopy describes a segment that may be written, and opens a private copy of it. limit is the number of commits
// that count; -1: all. Copying ends when ctx does.
func DescribeCopy(ctx context.Context, f File, copies string, limit int64) (*Segment, *Reader, error) {
	seg := &Segment{}
	seg.Info.Path, seg.Info.Snapshot = f.Path, true
	for _, name := range []string{f.At, f.At + "-wal"} {
		if info, err := os.Lstat(name); err == nil {
			seg.Info.Bytes += info.Size()
		}
	}
	var err error
	if seg.File, err = SnapshotUpTo(ctx, f.At, copies, limit); err != nil {
		return nil, nil, failure.Classify(err)
	}
	if err := seg.look(); err != nil {
		return nil, nil, err
	}
	if err := f.checkNumber(seg); err != nil {
		return nil, nil, err
	}
	r, err := seg.Open()
	return seg, r, err
}

// wall converts a time on a segment's clock to the wall clock.
func wall(ns, offset int64) time.Time { return time.Unix(0, ns+offset).UTC() }

// ErrNotClosed means that a segment may still be written, so that only a copy can be read.
var ErrNotClosed = errors.New("it may still be written")

// WallTime returns the time of ns since the Unix epoch, zero for 0.
func WallTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
