package proof

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// segmentVerifier verifies one segment.
type segmentVerifier struct {
	tape   *tapeVerifier
	number int
	path   string
	file   *os.File       // opened once, for all checks of a file that nobody writes
	book   *loggedSegment // nil: it is not in the log

	seg       segment.Segment
	heartbeat int64 // segment clock
	pass      rowPass
	chained   int64
	sum       [32]byte
	hashed    bool
	altered   bool     // some pages differ from their sums, which was reported
	broken    bool     // it could not be read
	unborn    bool     // it never had any content
	gapAfter  bool     // a gap reaches its end
	gapBefore bool     // a gap reaches its start
	removed   []string // details of its gaps for removed segments

	stop     <-chan struct{} // closed when the caller has given up
	problems []Problem
	notes    []string
}

// fail reports a problem of this segment. since is the last time at which it was right.
func (s *segmentVerifier) fail(since time.Time, format string, args ...any) {
	s.problems = append(s.problems, Problem{Segment: s.number, File: tapedir.SegmentName(s.number), Since: since, What: fmt.Sprintf(format, args...)})
}

func (s *segmentVerifier) note(text string) { s.notes = append(s.notes, text) }

// run checks everything, again if the file was replaced meanwhile: a hash proves nothing about rows read from another
// file.
func (s *segmentVerifier) run(ctx context.Context) {
	for range verifyTries {
		*s = segmentVerifier{tape: s.tape, number: s.number, path: s.path, book: s.book}
		var err error
		if s.file, err = tapedir.OpenForCopy(s.path); err != nil {
			s.failToRead(err)
			return
		}
		same := s.lookWhole(ctx)
		s.file.Close()
		if same || ctx.Err() != nil {
			return
		}
	}
	s.fail(s.rightUntil(), "the file was changed or replaced again and again while it was verified")
}

// lookWhole checks everything. It reports whether the path led to the open file all the time, and the file was not
// written. An unsealed file may be written: it is read from a copy.
func (s *segmentVerifier) lookWhole(ctx context.Context) (same bool) {
	var before, after, named unix.Stat_t
	if s.book.sealLeaf() == nil {
		s.lookAtAll(ctx)
		return true
	}
	err := unix.Fstat(int(s.file.Fd()), &before)
	s.lookAtAll(ctx)
	if err == nil {
		err = errors.Join(unix.Fstat(int(s.file.Fd()), &after), unix.Lstat(s.path, &named))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true // it may have expired: lookAgain finds out
	}
	before.Atim, after.Atim, named.Atim = unix.Timespec{}, unix.Timespec{}, unix.Timespec{}
	return err == nil && before == after && after == named
}

// lookAtAll makes all checks once.
func (s *segmentVerifier) lookAtAll(ctx context.Context) {
	s.stop = ctx.Done()
	if s.book == nil && (segment.Stillborn(ctx, s.path) || s.newest() && segment.Empty(ctx, s.path)) {
		s.unborn, s.broken = true, true
		s.note(tapedir.SegmentName(s.number) + " was never more than begun: a recorder was killed while it made it, or is making it now")
		return
	}
	if s.book != nil && s.book.expired {
		s.note(fmt.Sprintf("%s is still there although the log says that it expired: its removal was cut short", tapedir.SegmentName(s.number)))
	}
	if s.book.sealLeaf() != nil {
		s.checkFile(ctx)
	}
	err := s.open(ctx)
	if err == nil && !s.altered {
		s.checkManifest()
	}
	if s.book == nil && s.tape.log != nil {
		if err == nil && s.young() {
			s.note(tapedir.SegmentName(s.number) + " was begun after the last entry of the log, which does not cover it yet")
		} else {
			s.fail(time.Time{}, "the log does not know this segment: it was put here from elsewhere, or recorded without a log")
		}
	}
	if err != nil && ctx.Err() == nil {
		s.failToRead(err)
	}
}

// failToRead reports why the segment cannot be read.
func (s *segmentVerifier) failToRead(err error) {
	s.broken = true
	if errors.Is(err, fs.ErrNotExist) { // reported by missing, unless it has expired meanwhile
		s.fail(time.Time{}, "it was removed while the tape was verified")
		return
	}
	s.fail(s.rightUntil(), "it cannot be read: %v", failure.Bare(err))
}

// newest reports whether the log lists no segment of this number or above.
func (s *segmentVerifier) newest() bool {
	if s.tape.book == nil {
		return false
	}
	for n := range s.tape.book.segments {
		if n >= s.number {
			return false
		}
	}
	return true
}

// youngest limits the time from a segment's begin to its first entry in the log: the time of a slow disk, and more.
const youngest = 30 * time.Second

// young reports whether the recorder began this segment but was killed before it wrote that to the log.
func (s *segmentVerifier) young() bool {
	b := s.tape.book
	if len(b.starts) == 0 {
		return false
	}
	start := b.starts[len(b.starts)-1]
	made, passed := s.seg.Info.From, false
	for n, other := range b.segments {
		if n >= s.number {
			if other.start == nil || other.start.Seq != start.Seq {
				return false
			}
			passed = true
		}
	}
	if s.seg.Info.TapeID != escape.String(start.Tape, nil) || s.recordedFor() >= youngest {
		return false
	}
	switch {
	case passed: // the next recorder has begun another, and not sealed this one yet
		return made.After(b.endBefore.Add(-youngest))
	case !b.stopped && s.seg.Info.BootID == escape.String(start.BootID, nil):
		return true
	default: // killed before its start was logged: in another boot, or after a stop
		return b.unfinished(made)
	}
}

// recordedFor returns the time that the segment was recorded. Its clock may jump between two boots.
func (s *segmentVerifier) recordedFor() (sum time.Duration) {
	for _, b := range s.seg.Boots {
		sum += time.Duration(max(0, b.Last-b.First))
	}
	return sum
}

// unfinished reports whether the log may lack an event at this time because the recorder was killed: the log has no
// entry more than youngest later. After a logged stop it may not.
func (b *logBook) unfinished(made time.Time) bool {
	if b.stopped {
		return made.After(b.end)
	}
	return made.After(b.end.Add(-youngest))
}

// rightUntil returns the last time at which the segment was known to be right: of its seal or its last leaf.
func (s *segmentVerifier) rightUntil() time.Time {
	if seal := s.book.sealLeaf(); seal != nil {
		return segment.WallTime(seal.Real)
	}
	if s.book != nil {
		return s.book.lastSeen
	}
	return time.Time{}
}

// open opens the segment with SQLite: a sealed one in place, else a copy.
func (s *segmentVerifier) open(ctx context.Context) error {
	look := func(conn *sqlite.Conn) error {
		conn.SetInterrupt(s.stop)
		return s.look(conn)
	}
	switch {
	case segment.NeedsSnapshot(s.path):
		return segment.Peek(ctx, s.path, look)
	case s.altered:
		return segment.PeekUnchecked(s.file, look)
	}
	return segment.PeekInto(s.file, look)
}

// look compares the segment with itself and with the log.
func (s *segmentVerifier) look(conn *sqlite.Conn) error {
	if err := segment.Exec(conn, nil, "PRAGMA cell_size_check = ON"); err != nil {
		return err
	}
	if err := s.seg.Describe(conn); err != nil {
		return err
	}
	var before []byte // hash of the previous segment; nil: unknown
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		s.heartbeat = q.ColumnInt64(0)
		if !q.ColumnIsNull(1) {
			before = make([]byte, q.ColumnLen(1))
			q.ColumnBytes(1, before)
		}
		return nil
	}, `SELECT heartbeat_ns, previous_hash FROM segment`)
	if err != nil {
		return err
	}
	s.checkIdentity()
	if seal := s.tape.book.segments[s.seg.Previous].sealLeaf(); seal != nil && before != nil && !bytes.Equal(before, seal.SHA256[:]) {
		s.fail(s.rightUntil(), "the hash that it has of %s is not the one that the log has", tapedir.SegmentName(s.seg.Previous))
	}
	checks := []func(*sqlite.Conn) error{s.checkPages, s.checkRows, s.checkSealed, s.checkCounters, s.checkLosses, s.checkLedger, s.checkGaps, s.checkBoots, s.checkClock}
	if s.book.salvaged() {
		s.failSalvaged()
		checks = checks[:3] // the others would fail on the lost rows
	}
	for _, check := range checks {
		if err := check(conn); err != nil {
			return err
		}
	}
	return nil
}

// failSalvaged reports that the segment was salvaged, and why.
func (s *segmentVerifier) failSalvaged() {
	var since time.Time
	if n := len(s.book.points); n > 0 {
		since = segment.WallTime(s.book.points[0].real)
		for _, p := range s.book.points {
			if p.leaf < s.book.damaged.Seq {
				since = segment.WallTime(p.real)
			}
		}
	}
	s.fail(since, "it was found damaged, and this is what could be read of it (leaf %d): %s", s.book.damaged.Seq, escape.Bytes([]byte(s.book.damaged.Detail)))
}

// checkIdentity checks that the segment is the one in the log.
func (s *segmentVerifier) checkIdentity() {
	info := &s.seg.Info
	if info.Number != s.number {
		s.fail(s.rightUntil(), "it says that it is segment %d: it was renamed, or put here in place of another", info.Number)
		return
	}
	if s.book == nil || len(s.tape.book.starts) == 0 {
		return
	}
	start := s.book.start
	if start == nil { // pruned: all are of one tape
		start = &s.tape.book.starts[0]
	}
	for _, c := range []struct{ what, is, want string }{
		{"tape", info.TapeID, start.Tape}, {"host", info.Host, start.Host}, {"machine", info.MachineID, start.Machine},
	} {
		want := escape.String(c.want, nil)
		if c.want != "" && c.is != want {
			s.fail(s.rightUntil(), "it is of another %s: %s, and the log says %s", c.what, escape.Bytes([]byte(c.is)), want)
		}
	}
	begun := s.book.begun
	if begun == nil {
		return
	}
	if s.seg.Previous != begun.Previous {
		s.fail(s.rightUntil(), "it says that it follows segment %d, and the log says %d", s.seg.Previous, begun.Previous)
	}
}

// checkPages makes SQLite read every page and compare each index with its table.
func (s *segmentVerifier) checkPages(conn *sqlite.Conn) error {
	checks := []string{"PRAGMA quick_check(3)"}
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		checks = append(checks, fmt.Sprintf("PRAGMA integrity_check('%s')", segment.Quoted(q.ColumnText(0))))
		return nil
	}, `SELECT DISTINCT tbl_name FROM sqlite_schema WHERE type = 'index'`)
	if err != nil {
		return err
	}
	for _, check := range checks {
		var found []string
		err := segment.Exec(conn, func(q *sqlite.Stmt) error {
			if text := q.ColumnText(0); text != "ok" {
				found = append(found, text)
			}
			return nil
		}, check)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			s.fail(s.rightUntil(), "SQLite finds it damaged: %s", escape.Bytes([]byte(strings.Join(found, "; "))))
			break
		}
	}
	if s.book.sealLeaf() == nil {
		if info, err := os.Lstat(s.path); err == nil {
			s.tape.progress(info.Size())
		}
	}
	return nil
}

// result summarizes the segment.
func (s *segmentVerifier) result() VerifiedSegment {
	r := VerifiedSegment{Number: s.number, File: tapedir.SegmentName(s.number), State: s.seg.Info.State, Rows: s.pass.rows, Chained: s.chained,
		From: s.seg.Info.From, To: s.seg.Info.To, OK: len(s.problems) == 0}
	if info, err := os.Lstat(s.path); err == nil {
		r.Bytes = info.Size()
	}
	if s.hashed {
		r.SHA256 = hex.EncodeToString(s.sum[:])
	}
	if seal := s.book.sealLeaf(); seal != nil {
		r.State, r.SealedAt = "sealed", segment.WallTime(seal.Real)
	}
	if s.broken {
		r.State, r.From, r.To = "unreadable", time.Time{}, time.Time{}
	}
	return r
}
