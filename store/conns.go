package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
)

// Each segment is read through a connection of its own, in which it is the schema main. A connection is opened when it is
// first needed, and closed when it is the least recently used of many: a tape of thousands of segments has some dozens
// open. It is shared by the statements of one goroutine at a time.

// mostIdle is how many connections stay open that nobody reads through. Each takes up to 1.3 MB.
const mostIdle = 32

// ErrGone says that a segment was removed while the tape was read, as retention does. What is read of the tape goes on without it,
// and [Tape.Coverage] lists it as left out.
var ErrGone = errors.New("it was removed while it was read")

// reading is what a segment is read through.
type reading struct {
	conn   *sqlite.Conn
	tables *tableFile
}

func (r *reading) close() error { return errors.Join(r.conn.Close(), r.tables.Close()) }

// readers are the connections of a tape.
type readers struct {
	mu   sync.Mutex
	idle []*openSegment // the least recently used first
}

// Use lends fn a connection to a segment, by its place among Segments, which is able to do nothing but query. The
// segment's tables and views are in the schema main. A segment must be used by one goroutine at a time; different
// segments may be used at the same time. The error is that of fn, ErrGone, or says why the segment cannot be opened.
func (t *Tape) Use(segment int, fn func(*sqlite.Conn) error) error {
	conn, release, err := t.Borrow(segment)
	if err != nil {
		return err
	}
	defer release()
	return fn(conn)
}

// Borrow is Use for what does not end in one function: release ends it.
func (t *Tape) Borrow(segment int) (conn *sqlite.Conn, release func(), err error) {
	r, release, err := t.borrow(segment)
	if err != nil {
		return nil, nil, err
	}
	return r.conn, release, nil
}

func (t *Tape) borrow(segment int) (*reading, func(), error) {
	seg := t.segs[segment]
	release := func() { t.readers.release(seg) }
	seg.opening.Lock()
	defer seg.opening.Unlock()
	if r := t.readers.take(seg); r != nil {
		return r, release, nil
	}
	r, err := seg.open()
	if err != nil {
		if _, gone := os.Lstat(seg.file); errors.Is(gone, fs.ErrNotExist) && !errors.Is(err, ErrGone) {
			err = fmt.Errorf("%w: %s", ErrGone, filepath.Base(seg.info.Path)) // between two looks at it
		}
		if errors.Is(err, ErrGone) {
			t.leave(seg, err)
		} else {
			if failure.IsDamaged(err) {
				seg.watch.Found(seg.file, err)
			}
			err = &failure.Error{Op: "open segment", Path: seg.info.Path, Err: err, Hint: failure.HintFor(err)}
		}
		return nil, nil, err
	}
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	seg.reading, seg.users = r, 1
	return r, release, nil
}

// take returns the connection of a segment if it is open, and nil if it is not.
func (r *readers) take(seg *openSegment) *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seg.reading == nil {
		return nil
	}
	if seg.users++; seg.users == 1 {
		r.idle = slices.DeleteFunc(r.idle, func(s *openSegment) bool { return s == seg })
	}
	return seg.reading
}

// release notes that one less reads the segment, and closes the connection that was idle for longest if there are many.
func (r *readers) release(seg *openSegment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seg.users--; seg.users > 0 || seg.info.Snapshot || seg.reading == nil {
		return // the file of a snapshot has no name any more: it cannot be opened again
	}
	r.idle = append(r.idle, seg)
	if len(r.idle) > mostIdle {
		oldest := r.idle[0]
		r.idle = slices.Delete(r.idle, 0, 1)
		oldest.reading.close() // it was only read
		oldest.watch.Close()
		oldest.reading = nil
	}
}

// open opens the segment. If its file is another one by now, as when it was sealed, that must be the same segment.
func (seg *openSegment) open() (*reading, error) {
	told := seg.tableRoots() != nil // by the manifest
	if now, err := os.Lstat(seg.file); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrGone, filepath.Base(seg.info.Path))
	} else if err == nil && !os.SameFile(now, seg.stat) {
		again := &openSegment{file: seg.file, stat: now}
		if err := again.look(); err != nil {
			return nil, err
		}
		if again.info.Number != seg.info.Number || again.info.TapeID != seg.info.TapeID || again.batches < seg.batches {
			return nil, fmt.Errorf("%w: %s is another segment now", ErrGone, filepath.Base(seg.info.Path))
		}
		seg.stat, told = now, false
	}
	r := &reading{}
	var err error
	if r.tables, err = openTables(seg.file); err != nil {
		return nil, err
	}
	if r.conn, err = seg.connect(); err == nil {
		err = r.tables.find(r.conn)
	}
	if err == nil && !r.tables.isAt(seg.file) {
		err = fmt.Errorf("%w: %s", ErrGone, filepath.Base(seg.info.Path))
	}
	if err == nil && told {
		err = seg.checkTold(r)
	}
	if err != nil {
		if r.conn != nil {
			r.conn.Close()
		}
		r.tables.Close()
		return nil, err
	}
	return r, nil
}

// connect opens a connection to the file, and makes sure that it has no schema but ours.
func (seg *openSegment) connect() (*sqlite.Conn, error) {
	uri, err := seg.watch.URI(seg.file)
	if err != nil {
		return nil, err
	}
	conn, err := sqlite.OpenConn(uri, sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return nil, err
	}
	err = setDefensive(conn)
	for _, pragma := range []string{"PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON", "PRAGMA cache_size = -1024"} {
		if err == nil {
			err = execOn(conn, nil, pragma)
		}
	}
	if err == nil {
		err = checkSchema(conn, "main", seg.info.SchemaVersion)
	}
	if err == nil {
		err = harden(conn)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// leave notes that a segment is left out, once.
func (t *Tape) leave(seg *openSegment, err error) {
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	if !slices.ContainsFunc(t.leftOut, func(l LeftOut) bool { return l.Path == seg.info.Path }) {
		t.leftOut = append(t.leftOut, LeftOut{Path: seg.info.Path, Err: err})
	}
}

// LeftOut returns the segments that answers from this tape did not cover so far: those that could not be read when it was
// opened, and those that were removed since.
func (t *Tape) LeftOut() []LeftOut {
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	return slices.Clone(t.leftOut)
}
