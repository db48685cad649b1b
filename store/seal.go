package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// Sealing turns a segment that takes no more batches into one that is never
// written again. The recorded file is only closed: its WAL emptied, its state
// written. The index is built in a copy, which is checked as a whole,
// made durable, and takes the name of the file. So whatever fails leaves either
// the segment as it was recorded or the sealed one; a reader sees one or the
// other; and since the copy depends on the closed file alone, sealing that was
// interrupted ends with the same bytes when it is done again.
//
// The write bits of the file go last, after its hash was told: a sealed file that
// still has them is told again.

// seal does all that is left to do for s. It belongs to the keeper, who alone
// touches the file meanwhile.
func (w *Writer) seal(s *stored) error {
	if !s.built {
		err := w.closeAndBuild(s)
		if failure.IsDamaged(err) && s.seg == nil {
			err = w.replaceDamaged(s, err)
		}
		if err != nil {
			w.removeCopy(s)
			return err
		}
		s.built = true
	}
	e, err := describeSealed(s)
	if err != nil {
		return fmt.Errorf("hash segment: %w", err)
	}
	w.tell(e)
	if err := w.makeReadOnly(s.path); err != nil {
		return err
	}
	w.noteSealed(s.path, s.number)
	w.mu.Lock()
	s.sha, s.from, s.to, s.bytes = e.SHA256, e.From, e.To, e.Bytes
	s.tally = segment.Tally{Rows: e.Rows, Connects: e.Connects}
	s.state = sealed
	w.noteGrowth(s)
	w.hashed = hashedSegment{s.number, e.SHA256}
	w.mu.Unlock()
	w.holdSealed(s)
	w.log.Info("segment sealed", "path", s.path, "rows", e.Rows, "bytes", e.Bytes)
	return nil
}

// closeAndBuild makes the sealed file out of the recorded one.
func (w *Writer) closeAndBuild(s *stored) error {
	if s.damage != nil {
		return s.damage
	}
	if err := w.closeForGood(s); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return w.build(s)
}

// closeForGood leaves all of the recorded segment in one file, which nobody has open
// and nothing is written to any more.
func (w *Writer) closeForGood(s *stored) error {
	if s.seg == nil || s.seg.conn == nil {
		if _, held, err := tapedir.LockHolder(s.path, true); held && err == nil {
			return sqlite.ResultBusy.ToError() // a reader has it open, and must not lose it
		}
	}
	if s.seg == nil && (tapedir.IsThere(s.path+"-wal") || tapedir.IsThere(s.path+"-journal")) { // its recorder was killed
		seg, err := continueSegment(s.path, s.number)
		if err != nil {
			return err
		}
		s.seg = seg
	}
	if s.seg != nil {
		if err := s.seg.close(); err != nil {
			return err
		}
	}
	s.seg = nil
	f, err := tapedir.OpenForCopy(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	closed, err := segment.UsedBytes(f)
	if err != nil {
		return err
	}
	bytes := retain.AllocatedAt(s.path)
	w.mu.Lock()
	defer w.mu.Unlock()
	s.bytes, s.closed = bytes, closed
	return nil
}

// hashOf returns the hash of a sealed segment, nil if it is not the one that was sealed
// last.
func (w *Writer) hashOf(number int) any {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hashed.number != 0 && w.hashed.number == number {
		return w.hashed.sha[:]
	}
	return nil
}

// build makes the sealed copy and gives it the name of the segment.
func (w *Writer) build(s *stored) error {
	to := s.path + tapedir.SealingSuffix
	if err := s.makeCopy(to); err != nil {
		return fmt.Errorf("copy segment: %w", err)
	}
	if err := segment.BuildSealed(to, s.path, filepath.Dir(to), w.hashOf, s.stop); err != nil {
		return err
	}
	if err := s.appendSums(to); err != nil {
		return err
	}
	if err := tapedir.GiveToGroup(to, tapedir.FileMode); err != nil {
		return err
	}
	if err := tapedir.SyncFile(to); err != nil {
		return err
	}
	if s.givenUp() {
		return segment.ErrGivenUp
	}
	return w.putInPlace(s, to)
}

// makeCopy makes an empty database under a name that nobody uses, unless a slot has it.
func (s *stored) makeCopy(to string) error {
	if s.target > 0 {
		return nil
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) { // of a recorder that was killed
		return err
	}
	return createFile(to, sealedDatabase())
}

// appendSums puts the sums of its pages behind the sealed copy.
func (s *stored) appendSums(to string) error {
	ctx, end := s.context()
	defer end()
	return failure.Classify(sqlitefile.AppendSumsContext(ctx, to, s.target))
}

// describeSealed reads and hashes a sealed file that nobody has open.
func describeSealed(s *stored) (SegmentSealed, error) {
	e := SegmentSealed{Segment: s.number, File: tapedir.SegmentName(s.number)}
	err := segment.PeekAt(s.path, func(conn *sqlite.Conn) error {
		info := &segment.Segment{}
		if err := info.Describe(conn); err != nil {
			return err
		}
		e.TapeID, e.BootID, e.Host = info.Info.TapeID, info.Info.BootID, info.Info.Host
		e.From, e.To, e.Batches, e.Counters = info.Info.From.UnixNano(), info.Info.To.UnixNano(), info.Batches, segment.CountersOf(info.Runs)
		return segment.Exec(conn, func(q *sqlite.Stmt) error {
			e.Rows, e.First, e.Last = q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnInt64(2)
			q.ColumnBytes(3, e.Chain[:])
			e.Connects = q.ColumnInt64(4)
			return nil
		}, `SELECT rows, coalesce(first_ns, 0), coalesce(last_ns, 0), (SELECT chain FROM batch ORDER BY id DESC LIMIT 1), connects FROM seal`)
	})
	if err != nil {
		return e, err
	}
	if e.PageSums, err = segment.HashOfSums(s.path); err != nil {
		return e, err
	}
	e.SHA256, e.Bytes, err = segment.HashFile(s.path, s.stop)
	return e, err
}

// makeReadOnly takes the write bits off a sealed file, and makes it immutable
// when that was asked for.
func (w *Writer) makeReadOnly(path string) error {
	if err := tapedir.GiveToGroup(path, tapedir.ClosedMode); err != nil {
		return err
	}
	if err := tapedir.SyncFile(path); err != nil {
		return err
	}
	if !w.o.Immutable {
		return nil
	}
	if err := tapedir.SetImmutable(path); err != nil {
		w.log.Warn("segment not made immutable", "path", path, "error", err)
	}
	return nil
}
