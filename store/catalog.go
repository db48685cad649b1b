package store

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// stored is a segment of the tape that is not active.
type stored struct {
	number int
	path   string
	bytes  int64 // size of its files on the disk
	closed int64 // size of its database when closed, for sealing
	from   int64 // covered wall clock, ns; 0: unknown
	to     int64
	sha    [32]byte // zero: not sealed or not read yet
	state  storedState
	target int64 // size of the slot for sealing; 0: none
	used   int64 // size of pages and sums in its file; 0: unknown
	plain  bool  // being sealed into a growing file
	built  bool  // sealed, except for the report and the file's mode
	damage error // reason to salvage it instead of sealing
	stuck  bool  // it could not be removed
	tally  segment.Tally

	seg       *activeSegment // still open, from the writer; nil: closed
	notBefore time.Time      // next try of sealing
	stop      chan struct{}  // closing it stops the sealing
	done      chan struct{}  // closed when the work on it ends; nil: none
}

// storedState is the state of a stored segment.
type storedState int

const (
	unsealed storedState = iota // to be sealed
	sealed
	aside // quarantined after an error, or unknown: not touched
)

// catalog lists the stored segments, oldest first. Writer.mu guards it.
type catalog struct {
	list     []*stored
	expired  []*expired       // removed from the tape, but not from the disk yet
	pinned   []*retain.Pinned // removed, but open in readers
	other    int64            // bytes of other files
	room     int64            // limit of the tape's size; 0: none
	growing  int64            // bytes that the batch being written may add
	making   int64            // bytes of the segment being made, until it is active
	spareWAL int64            // bytes of the WAL for the next segment
	sorting  int64            // bytes of the file for sorting
	slot     int64            // bytes allocated at once for the next segment; 0: none
	active   struct {         // the active segment, as last reported by the writer
		bytes, closed int64
	}
}

func (c *catalog) add(s *stored) {
	c.list = append(c.list, s)
	slices.SortFunc(c.list, func(a, b *stored) int { return a.number - b.number })
}

func (c *catalog) remove(s *stored) {
	c.list = slices.DeleteFunc(c.list, func(o *stored) bool { return o == s })
}

// usage is a tape's disk space, in bytes.
type usage struct {
	kept     int64 // everything except segments being removed
	active   int64 // the active segment once it is closed
	expired  int64 // segments being removed
	reserved int64 // largest need of sealing, one segment at a time
	sealing  int64 // part of reserved that the current sealing may take at any moment
	growing  int64 // the batch being written
	next     int64 // the next segment, at once
	sorting  int64 // part of reserved that sorting has taken
}

// usage adds it up.
func (c *catalog) usage() (u usage) {
	u.kept = c.other + c.active.bytes + c.making + c.spareWAL + c.sorting
	u.active, u.growing, u.next, u.sorting = c.active.closed, c.growing, c.slot, c.sorting
	for _, s := range c.list {
		u.kept += s.bytes + s.target
		if s.state != unsealed {
			continue
		}
		more := max(0, retain.SealingBytes(s.closed)-c.sorting)
		if s.target > 0 {
			more = 0
		}
		u.reserved = max(u.reserved, more)
		if s.done != nil && s.plain {
			u.sealing = max(u.sealing, more)
		}
	}
	for _, p := range c.pinned {
		u.expired += p.Bytes
	}
	for _, e := range c.expired {
		if e.stuck {
			u.kept += e.bytes
		} else {
			u.expired += e.bytes
		}
	}
	return u
}

// waiting reports whether a segment is due for sealing.
func (w *Writer) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.hurry && slices.ContainsFunc(w.catalog.list, (*stored).isDue)
}

// isDue reports whether s is due for sealing.
func (s *stored) isDue() bool { return s.state == unsealed && time.Now().After(s.notBefore) }

// noteActive updates the size of the active segment. Only the writer calls it.
func (w *Writer) noteActive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog.active.bytes, w.catalog.active.closed, w.catalog.growing, w.catalog.making = 0, 0, 0, 0
	if w.seg != nil {
		w.catalog.active.bytes, w.catalog.active.closed = w.seg.bytes(), w.seg.pages*pageSize
	}
}

// oldest returns the first stored segment that can be removed; nil: none.
func (c *catalog) oldest() *stored {
	for _, s := range c.list {
		if !s.stuck {
			return s
		}
	}
	return nil
}

// find returns the stored segment with this number; nil: none.
func (c *catalog) find(number int) *stored {
	for _, s := range c.list {
		if s.number == number {
			return s
		}
	}
	return nil
}

// loadCatalog reads every segment of the directory except the newest, which recording may continue. We hold the tape's
// lock, and none of them is open.
func (w *Writer) loadCatalog(numbers []int, newest int) {
	cut := map[int]bool{} // quarantined segments with a limit of commits
	for i := len(numbers) - 1; i >= 0; i-- {
		if numbers[i] == newest {
			continue
		}
		s := &stored{number: numbers[i], path: filepath.Join(w.dir, tapedir.SegmentName(numbers[i]))}
		s.measure()
		if cut[s.number] {
			s.state = aside
		} else if previous, all := w.lookAt(s); !all {
			cut[previous] = true
		}
		w.catalog.add(s)
	}
}

// lookAt reads a segment's description. It returns the number of the previous segment, and whether all commits of that
// one count.
func (w *Writer) lookAt(s *stored) (previous int, all bool) {
	isSealed := false
	look := segment.PeekAt // no process writes it now
	if tapedir.IsThere(s.path + "-wal") {
		look = func(path string, fn func(*sqlite.Conn) error) error {
			return segment.Peek(w.patience, path, fn)
		}
	}
	err := look(s.path, func(conn *sqlite.Conn) error {
		err := segment.Exec(conn, func(q *sqlite.Stmt) error {
			s.from, s.to = q.ColumnInt64(0), q.ColumnInt64(1)
			previous, all = q.ColumnInt(2), q.ColumnIsNull(3)
			return nil
		}, spanSQL)
		if err != nil {
			return err
		}
		if isSealed, err = segment.HasSeal(conn); err != nil {
			return err
		}
		s.tally, err = segment.ReadTally(conn, isSealed)
		return err
	})
	switch {
	case failure.IsDamaged(err):
		s.damage, s.tally = err, segment.UnknownTally
	case err != nil:
		s.tally = segment.UnknownTally
		w.log.Warn("segment not understood", "path", s.path, "error", err)
		s.state = aside
		return 0, true
	case isSealed && tapedir.ClosedFile(s.path):
		s.state = sealed
	case isSealed:
		s.built = true
	}
	if s.damage != nil {
		return 0, true
	}
	return previous, all
}

// spanSQL reads a segment's span on the wall clock, and its link to the previous one.
const spanSQL = `SELECT
	created_ns + (SELECT offset_ns FROM clock WHERE id <= created_ns ORDER BY id DESC LIMIT 1),
	heartbeat_ns + (SELECT offset_ns FROM clock ORDER BY id DESC LIMIT 1),
	coalesce(previous_number, 0), previous_batches FROM segment`

// measure sets the size of the files and, if unknown, their last write. Database and WAL together are the largest size
// of the closed database.
func (s *stored) measure() {
	s.bytes = 0
	for _, suffix := range retain.SegmentSuffixes {
		info, err := os.Lstat(s.path + suffix)
		if err != nil {
			continue
		}
		s.bytes += retain.Allocated(info)
		if s.to == 0 {
			s.to = info.ModTime().UnixNano()
		}
	}
	s.closed = s.bytes
}
