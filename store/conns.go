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

// Each segment has its own connection, where it is schema main. A connection is opened on demand; the least recently
// used is closed. So a tape of thousands of segments has some dozens open. Only one goroutine at a time uses a
// connection.

// mostIdle limits the open but unused connections. Each takes up to 1.3 MB.
const mostIdle = 32

// member is a segment of a tape.
type member struct {
	*segment.Segment
	opening sync.Mutex      // held while opening it
	reading *segment.Reader // nil: not open
	users   int             // users of reading
	joined  bool            // reading has the digests of later segments
	files   *fileRows       // of a private copy
}

// readers are the connections of a tape.
type readers struct {
	mu   sync.Mutex
	idle []*member // least recently used first
}

// Use calls fn with a query-only connection to a segment, by its index in Segments. Its tables and views are in schema
// main. One goroutine at a time may use a segment; different segments may be used in parallel. The error is fn's,
// ErrGone, or the reason for not opening the segment.
func (t *Tape) Use(place int, fn func(*sqlite.Conn) error) error {
	conn, release, err := t.Borrow(place)
	if err != nil {
		return err
	}
	defer release()
	return fn(conn)
}

// Borrow is Use for work that outlasts a function; call release at the end.
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
		if err := t.join(place, r); err != nil {
			release()
			return nil, nil, err
		}
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
	seg.joined = false
	if err := t.join(place, r); err != nil {
		r.Close()
		return nil, nil, err
	}
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	seg.reading, seg.users = r, 1
	return r, release, nil
}

// join is joinFiles, once for each reader.
func (t *Tape) join(place int, r *segment.Reader) error {
	seg := t.segs[place]
	if seg.joined {
		return nil
	}
	seg.joined = true
	if err := t.joinFiles(place, r.Conn); err != nil {
		return &failure.Error{Op: "open segment", Path: seg.Info.Path, Err: err, Hint: failure.HintFor(err)}
	}
	return nil
}

// take returns the open connection of a segment, nil if it is not open.
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

// release counts one reader less, and closes the least recently used connection if there are many.
func (r *readers) release(seg *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seg.users--; seg.users > 0 || seg.Info.Snapshot || seg.reading == nil {
		return // a snapshot's file has no name any more: it cannot be reopened
	}
	r.idle = append(r.idle, seg)
	if len(r.idle) > mostIdle {
		oldest := r.idle[0]
		r.idle = slices.Delete(r.idle, 0, 1)
		closing := oldest.reading
		oldest.Watch.Close()
		oldest.reading = nil
		// It was only read. Closing waits for other connections to be closed, and one of those may wait for this: the connection of the views ends
		// its cursors, which release segments.
		go closing.Close()
	}
}

// leave records once that a segment is left out.
func (t *Tape) leave(seg *member, err error) {
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	if !slices.ContainsFunc(t.leftOut, func(l LeftOut) bool { return l.Path == seg.Info.Path }) {
		t.leftOut = append(t.leftOut, LeftOut{Path: seg.Info.Path, Err: err})
	}
}

// LeftOut returns the segments missing in answers so far: unreadable at opening, or removed since.
func (t *Tape) LeftOut() []LeftOut {
	t.readers.mu.Lock()
	defer t.readers.mu.Unlock()
	return slices.Clone(t.leftOut)
}
