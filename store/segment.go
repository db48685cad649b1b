package store

import (
	"fmt"
	"os"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
)

// activeSegment is the active file, held by this process and nobody else.
type activeSegment struct {
	path   string
	number int
	conn   *sqlite.Conn // nil: closed until something is to be written to it

	tapeID    string
	host      string // as stored, escaped
	machineID string // likewise
	boot      int64  // row of table boot of the newest boot
	bootID    string // of it
	offset    int64  // segment clock minus CLOCK_BOOTTIME, ns
	floor     int64  // the least offset that a later segment of this boot may have
	state     string
	schema    int
	run       int64 // row of table run that this recorder has
	created   int64 // segment clock
	heartbeat int64 // segment clock
	wallStep  int64 // wall clock minus segment clock, by the last anchor
	batches   int64 // commits so far
	previous  int   // number of the segment before, 0 none
	counts    int64 // of its commits, -1 all

	rows    rowWriter
	ruler   ruler
	intern  interner
	chainer chainer
	blocks  blocks
	tally   segment.Tally      // as last committed
	counted segment.Counters   // as last committed
	told    map[string]toldGap // by cause, as last committed
	gaps    []Gap              // of the last batch, as they were written

	checkpointed  time.Time
	pages         int64  // of the database, as if all had been checkpointed
	walPages      int64  // in the WAL since it began anew, 0 when all are in the database
	walSize       int64  // of the WAL file, bytes
	length        int64  // of the database file, bytes: more than its pages if it was made from a slot
	taken         int64  // by database and WAL on the disk, bytes
	walKeep       int64  // size that the WAL file may keep, bytes
	missedUpdates uint64 // updates of rows that are not in this segment
	missedNames   uint64 // names of such rows
	previousHash  []byte // of the segment before, to be written with the next batch
}

// What keeps the WAL small. After a commit that leaves checkpointPages in it, and
// checkpointEvery after the last time, or with checkpointPagesMax at any time,
// they are moved into the database, and the next batch begins at its start
// again. So it never grows beyond checkpointPagesMax plus one batch (32 MiB). A
// reader copies database and WAL and must begin anew when the WAL began anew
// meanwhile: that it does not do so more than about once a second, even at a
// million connections a second, lets the copy of a large segment succeed.
const (
	pageSize           = 4096
	checkpointPages    = 1000
	checkpointPagesMax = retain.MostWALPages
	checkpointEvery    = 2 * time.Second
)

// writerPragmas are run before anything else touches the file. Exclusive mode
// comes before WAL, so that no -shm file is made or used and the lock is taken
// once and held.
var writerPragmas = []string{
	"PRAGMA locking_mode = EXCLUSIVE",
	fmt.Sprintf("PRAGMA page_size = %d", pageSize),
	"PRAGMA trusted_schema = OFF",
	"PRAGMA cell_size_check = ON",
	"PRAGMA temp_store = MEMORY",
	"PRAGMA cache_size = -8192",
	"PRAGMA cache_spill = OFF", // or a large batch would write pages twice
	"PRAGMA journal_mode = WAL",
	"PRAGMA synchronous = FULL",
	"PRAGMA wal_autocheckpoint = 0", // ours reports its errors
}

// openForWriting opens path and takes its lock at once or not at all.
func openForWriting(path string) (*sqlite.Conn, error) {
	conn, err := segment.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	conn.SetBusyTimeout(0)
	if err := segment.Defend(conn); err != nil {
		segment.CloseConn(conn)
		return nil, err
	}
	for _, pragma := range writerPragmas {
		var answer string
		err := segment.Exec(conn, func(s *sqlite.Stmt) error { answer = s.ColumnText(0); return nil }, pragma)
		if err == nil && pragma == "PRAGMA journal_mode = WAL" && answer != "wal" {
			err = fmt.Errorf("journal mode is %q", answer)
		}
		if err != nil {
			segment.CloseConn(conn)
			return nil, fmt.Errorf("prepare segment: %w", err)
		}
	}
	return conn, nil
}

// continueSegment opens an existing segment to go on writing it, or to close it.
// The caller looks at schema, state and where it was recorded.
func continueSegment(path string, number int) (_ *activeSegment, err error) {
	conn, err := openForWriting(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			segment.CloseConn(conn)
		}
	}()
	s := newSegment(path, number, conn)
	if s.schema, err = segment.SchemaVersion(conn); err != nil {
		return nil, err
	}
	if err := segment.CheckSchema(conn, s.schema); err != nil {
		return nil, err
	}
	var compatible, incompatible int64
	rows := 0
	err = s.query(func(q *sqlite.Stmt) error {
		rows++
		s.tapeID, s.host, s.machineID, s.state = q.ColumnText(0), q.ColumnText(1), q.ColumnText(2), q.ColumnText(3)
		s.heartbeat, s.batches = q.ColumnInt64(4), q.ColumnInt64(5)
		compatible, incompatible = q.ColumnInt64(6), q.ColumnInt64(7)
		s.created, s.wallStep = q.ColumnInt64(8), q.ColumnInt64(9)
		s.previous, s.counts = q.ColumnInt(10), q.ColumnInt64(11)
		return nil
	}, `SELECT tape_id, host, machine_id, state, heartbeat_ns, batches, compatible, incompatible, created_ns,
		(SELECT offset_ns FROM clock ORDER BY id DESC LIMIT 1),
		coalesce(previous_number, 0), coalesce(previous_batches, -1) FROM segment`)
	switch {
	case err != nil:
		return nil, err
	case rows != 1:
		return nil, segment.ErrNoDescription
	}
	if err := segment.CheckFeatures(compatible, incompatible); err != nil {
		return nil, err
	}
	if err := s.loadBoot(); err != nil {
		return nil, err
	}
	if s.tally, err = segment.ReadTally(conn, false); err != nil {
		return nil, err
	}
	if err := s.loadState(); err != nil {
		return nil, err
	}
	return s, nil
}

// reopen opens a segment that was closed to be written to once more.
func (s *activeSegment) reopen() (err error) {
	if s.conn == nil {
		s.conn, err = openForWriting(s.path)
	}
	return err
}

// boundWAL has the WAL checkpointed when that many bytes are in it. Its file is cut to
// as many, or to length if that is more.
func (s *activeSegment) boundWAL(bytes, length int64) error {
	s.walKeep = bytes
	if err := s.exec(fmt.Sprintf("PRAGMA journal_size_limit = %d", max(bytes, length))); err != nil {
		return err
	}
	return s.measure()
}

// measure notes how large the files are.
func (s *activeSegment) measure() error {
	err := s.query(func(q *sqlite.Stmt) error { s.pages = q.ColumnInt64(0); return nil }, "PRAGMA page_count")
	if err != nil {
		return err
	}
	s.walSize, s.length, s.taken = 0, s.pages*pageSize, s.pages*pageSize
	if info, err := os.Lstat(s.path); err == nil {
		s.length, s.taken = max(s.length, info.Size()), max(s.taken, retain.Allocated(info))
	}
	if info, err := os.Lstat(s.path + "-wal"); err == nil {
		s.walSize = info.Size()
		s.taken += retain.Allocated(info)
	}
	return nil
}

// emptyWAL moves all of the WAL into the database.
func (s *activeSegment) emptyWAL() error {
	if err := s.query(nil, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	s.walPages = 0
	return s.measure()
}

// walUsed is how much of the WAL holds what is not in the database yet.
func (s *activeSegment) walUsed() int64 { return s.walPages * walFrameBytes }

// bytes is what the files take when all of the WAL is in the database too.
func (s *activeSegment) bytes() int64 { return s.taken }

func newSegment(path string, number int, conn *sqlite.Conn) *activeSegment {
	s := &activeSegment{path: path, number: number, conn: conn, counted: segment.Counters{}, told: map[string]toldGap{}}
	s.rows.segment, s.intern.segment = s, s
	s.ruler.begin(0)
	s.forget()
	return s
}

// loadState reads what an already filled segment holds that the writer must
// know: the last id, and the shapes.
func (s *activeSegment) loadState() error {
	s.forget()
	if err := s.rows.load(); err != nil {
		return err
	}
	s.ruler.begin(s.rows.maxID)
	if err := s.chainer.load(s.conn); err != nil {
		return err
	}
	if err := s.blocks.load(s); err != nil {
		return err
	}
	return s.intern.loadShapes()
}

// forget drops every row id that was remembered.
func (s *activeSegment) forget() {
	s.intern.epoch = new(epoch)
	s.intern.shapes, s.intern.shapePointers, s.intern.shapeByID = map[Shape]int64{}, map[*Shape]int64{}, nil
}

func (s *activeSegment) exec(query string, args ...any) error {
	return segment.Exec(s.conn, nil, query, args...)
}

func (s *activeSegment) query(row func(*sqlite.Stmt) error, query string, args ...any) error {
	return segment.Exec(s.conn, row, query, args...)
}

// inTransaction runs fn between BEGIN and COMMIT. When it returns nil the
// transaction is on the disk. After a fault of the file nothing more is done to
// it, not even a rollback; after any other error, and on a disk that is full, the
// transaction is rolled back and what was remembered of its rows forgotten.
func (s *activeSegment) inTransaction(fn func() error) error {
	if err := s.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		err = s.exec("COMMIT")
	}
	if err == nil || storageFault(err) && !isFull(err) {
		return err
	}
	if !s.conn.AutocommitEnabled() {
		if rerr := s.exec("ROLLBACK"); rerr != nil {
			return rerr
		}
	}
	if rerr := s.reload(); rerr != nil {
		return rerr
	}
	return err
}

// reload is loadState for a segment that may not have its tables yet.
func (s *activeSegment) reload() error {
	if s.batches == 0 {
		s.forget()
		s.rows.maxID = 0
		s.ruler.begin(0)
		s.blocks.clear()
		return s.chainer.load(s.conn)
	}
	return s.loadState()
}

// close empties the WAL, closes the file and so lets go of its lock.
func (s *activeSegment) close() error {
	if s.conn == nil {
		return nil
	}
	err := s.query(nil, "PRAGMA wal_checkpoint(PASSIVE)")
	if err != nil {
		return err // and leave it open: closing would try again
	}
	return segment.CloseConn(s.conn)
}

// removeSegment removes the files of a segment whose birth was not completed.
func removeSegment(path string) {
	for _, suffix := range []string{"-wal", "-journal", ""} {
		os.Remove(path + suffix)
	}
}
