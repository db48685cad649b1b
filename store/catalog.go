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

// stored is a segment of the tape that is not the active one.
type stored struct {
	number int
	path   string
	bytes  int64 // that its files take on the disk
	closed int64 // size of its database once it is closed; for sealing
	from   int64 // wall clock that it covers, ns; 0 unknown
	to     int64
	sha    [32]byte // zero: not sealed, or not read yet
	state  storedState
	target int64 // bytes of the slot into which it is being sealed, 0 none
	used   int64 // of its file, its pages and their sums take so much; 0 not known
	plain  bool  // it is being sealed into a file that grows
	built  bool  // sealed, but for telling so and for the mode of the file
	damage error // why it cannot be sealed as it is, and is to be salvaged
	stuck  bool  // it could not be removed
	tally  segment.Tally

	seg       *activeSegment // still open, handed over by the writer; nil it is not
	notBefore time.Time      // when to try sealing it again
	stop      chan struct{}  // closed: give up sealing it
	done      chan struct{}  // closed when nobody works on it any more; nil nobody does
}

// storedState is what became of a segment after it was active.
type storedState int

const (
	unsealed storedState = iota // to be sealed
	sealed
	aside // not ours to touch: it gave an error, or nobody knows what it is
)

// catalog lists the stored segments, oldest first. It belongs to whoever holds
// Writer.mu.
type catalog struct {
	list     []*stored
	expired  []*expired       // no part of the tape any more, and not gone yet
	pinned   []*retain.Pinned // gone, but for readers that have them open
	other    int64            // bytes of what is no segment
	room     int64            // bytes that the tape may take, 0 any number
	growing  int64            // bytes that the batch that is being written may add
	making   int64            // bytes of the segment that is being made, until it is active
	spareWAL int64            // bytes of the WAL that the next segment gets
	sorting  int64            // bytes of the file in which sealing sorts
	slot     int64            // bytes that the next segment takes at once, 0 none
	active   struct {         // the active segment, as the writer last told
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

// usage is what a tape takes, in bytes.
type usage struct {
	kept     int64 // by all that is no part of what is being removed
	active   int64 // the active segment once it is closed
	expired  int64 // by what is being removed
	reserved int64 // to be taken by sealing at the most, which is one segment at a time
	sealing  int64 // of this, what is being sealed now may take any moment
	growing  int64 // to be taken by the batch that is being written
	next     int64 // to be taken by the next segment at once
	sorting  int64 // of what sealing takes, this is there
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

// waiting reports whether a segment is to be sealed now.
func (w *Writer) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.hurry && slices.ContainsFunc(w.catalog.list, (*stored).isDue)
}

// isDue reports whether s is to be sealed now.
func (s *stored) isDue() bool { return s.state == unsealed && time.Now().After(s.notBefore) }

// noteActive notes what the active segment takes. It belongs to the writer.
func (w *Writer) noteActive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog.active.bytes, w.catalog.active.closed, w.catalog.growing, w.catalog.making = 0, 0, 0, 0
	if w.seg != nil {
		w.catalog.active.bytes, w.catalog.active.closed = w.seg.bytes(), w.seg.pages*pageSize
	}
}

// oldest is the first of the stored segments that can be removed, nil none.
func (c *catalog) oldest() *stored {
	for _, s := range c.list {
		if !s.stuck {
			return s
		}
	}
	return nil
}

// find returns the stored segment of that number, nil none.
func (c *catalog) find(number int) *stored {
	for _, s := range c.list {
		if s.number == number {
			return s
		}
	}
	return nil
}

// loadCatalog looks at every segment of the directory but the newest, which
// recording may go on with. The lock of the tape is ours, and none of them open.
func (w *Writer) loadCatalog(numbers []int, newest int) {
	cut := map[int]bool{} // segments of which not all commits count: they were set aside
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

// lookAt fills in what a segment says of itself. It returns the number of the
// segment before it and whether all of its commits count.
func (w *Writer) lookAt(s *stored) (previous int, all bool) {
	isSealed := false
	look := segment.PeekAt // nobody writes it now
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

// spanSQL is what a segment covers on the wall clock, and what it says of the one
// before.
const spanSQL = `SELECT
	created_ns + (SELECT offset_ns FROM clock WHERE id <= created_ns ORDER BY id DESC LIMIT 1),
	heartbeat_ns + (SELECT offset_ns FROM clock ORDER BY id DESC LIMIT 1),
	coalesce(previous_number, 0), previous_batches FROM segment`

// measure notes what the files take, and, when it is not known, when they were last
// written. A database and its WAL are together as large as it can be when it is
// closed.
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
