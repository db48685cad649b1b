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
	"github.com/conntape/conntape/store/segment"
)

// Each segment is read through a connection of its own, in which it is the schema main. A connection is opened when it is
// first needed, and closed when it is the least recently used of many: a tape of thousands of segments has some dozens
// open. It is shared by the statements of one goroutine at a time.

// mostIdle is how many connections stay open that nobody reads through. Each takes up to 1.3 MB.
const mostIdle = 32

// member is a segment of a tape.
type member struct {
	*segment.Segment
	opening sync.Mutex      // held while it is opened
	reading *segment.Reader // nil: it is not open
	users   int             // of that
}

// readers are the connections of a tape.
type readers struct {
	mu   sync.Mutex
	idle []*member // the least recently used first
}

// Use lends fn a connection to a segment, by its place among Segments, which is able to do nothing but query. The
// segment's tables and views are in the schema main. A segment must be used by one goroutine at a time; different
// segments may be used at the same time. The error is that of fn, ErrGone, or says why the segment cannot be opened.
func (t *Tape) Use(place int, fn func(*sqlite.Conn) error) error {
	conn, release, err := t.Borrow(place)
	if err != nil {
		return err
	}
	defer release()
	return fn(conn)
}

// Borrow is Use for what does not end in one function: release ends it.
func (t *Tape) Borrow(place int) (conn *sqlite.Conn, release func(), err error) {
	r, release, err := t.borrow(place)
	if err != nil {
		return nil, nil, err
	}
	return r.Conn, release, nil
}

func (t *Tape) borrow(place int) (*segment.Reader, func(), error) {
	seg := t.segs[place]
	release := func() { t.readers.release(seg) }
	seg.opening.Lock()
	defer seg.opening.Unlock()
	if r := t.readers.take(seg); r != nil {
		return r, release, nil
	}
	r, err := seg.Open()
	if err != nil {
		if _, gone := os.Lstat(seg.File); errors.Is(gone, fs.ErrNotExist) && !errors.Is(err, segment.ErrGone) {
			err = fmt.Errorf("%w: %s", segment.ErrGone, filepath.Base(seg.Info.Path)) // between two looks at it
		}
		if errors.Is(err, segment.ErrGone) {
			t.leave(seg, err)
		} else {
			if failure.IsDamaged(err) {
				seg.Watch.Found(seg.File, err)
			}
			err = &failure.Error{Op: "open segment", Path: seg.Info.Path, Err: err, Hint: failure.HintFor(err)}
		}
		return nil, nil, err
	}
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	seg.reading, seg.users = r, 1
	return r, release, nil
}

// take returns the connection of a segment if it is open, and nil if it is not.
func (r *readers) take(seg *member) *segment.Reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seg.reading == nil {
		return nil
	}
	if seg.users++; seg.users == 1 {
		r.idle = slices.DeleteFunc(r.idle, func(s *member) bool { return s == seg })
	}
	return seg.reading
}

// release notes that one less reads the segment, and closes the connection that was idle for longest if there are many.
func (r *readers) release(seg *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seg.users--; seg.users > 0 || seg.Info.Snapshot || seg.reading == nil {
		return // the file of a snapshot has no name any more: it cannot be opened again
	}
	r.idle = append(r.idle, seg)
	if len(r.idle) > mostIdle {
		oldest := r.idle[0]
		r.idle = slices.Delete(r.idle, 0, 1)
		oldest.reading.Close() // it was only read
		oldest.Watch.Close()
		oldest.reading = nil
	}
}

// leave notes that a segment is left out, once.
func (t *Tape) leave(seg *member, err error) {
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	if !slices.ContainsFunc(t.leftOut, func(l LeftOut) bool { return l.Path == seg.Info.Path }) {
		t.leftOut = append(t.leftOut, LeftOut{Path: seg.Info.Path, Err: err})
	}
}

// LeftOut returns the segments that answers from this tape did not cover so far: those that could not be read when it was
// opened, and those that were removed since.
func (t *Tape) LeftOut() []LeftOut {
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	return slices.Clone(t.leftOut)
}
