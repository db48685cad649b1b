package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// Sealing goes from one slot to another.

// sealedMargin is by how much sealing may make a segment larger than it did the last
// time, in percent of its size, for the next one to fit into its slot.
const sealedMargin = 3

// Bounds of what is believed of the last time, in percent.
const (
	sealedLeast = 110
	sealedMost  = 145
)

// noteGrowth notes what sealing made of a segment of a common size. The caller holds
// w.mu.
func (w *Writer) noteGrowth(s *stored) {
	if s.used > 0 && s.closed > w.catalog.slot/2 {
		w.grows = min(sealedMost, max(sealedLeast, 100*s.used/s.closed+1))
	}
}

// takeTarget takes a slot for sealing s, unless it would leave most of it empty.
func (w *Writer) takeTarget(s *stored) {
	w.mu.Lock()
	slot, sealed := w.catalog.slot, s.closed/100*w.grows
	w.mu.Unlock()
	if slot > 0 && !s.built && sealed >= slot/2 {
		w.takeSlot(s.path+tapedir.SealingSuffix, sealedDatabase(), func(bytes int64) { s.target = bytes })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.plain = s.target == 0
}

// removeCopy removes what sealing has made of s so far.
func (w *Writer) removeCopy(s *stored) {
	to := s.path + tapedir.SealingSuffix
	gone := func() { s.target, s.plain = 0, false }
	if s.target > 0 && w.giveSlot(to, gone) {
		return
	}
	os.Remove(to)
	os.Remove(to + "-journal")
	w.mu.Lock()
	defer w.mu.Unlock()
	gone()
}

// putInPlace gives the sealed file the name of the recorded one, which becomes a free
// slot if it is as long as one.
func (w *Writer) putInPlace(s *stored, to string) error {
	swap := s.bytes >= s.target && s.target > 0
	err := errors.ErrUnsupported
	if swap {
		err = unix.Renameat2(unix.AT_FDCWD, to, unix.AT_FDCWD, s.path, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		swap, err = false, os.Rename(to, s.path)
	}
	w.step("sealed segment named")
	if err == nil {
		err = tapedir.SyncDir(w.dir)
	}
	w.step("sealed segment durable")
	if err != nil {
		return fmt.Errorf("put sealed segment in place: %w", failure.Bare(err))
	}
	bytes, used := retain.AllocatedAt(s.path), sealedUse(s.path)
	placed := func() { s.bytes, s.used, s.target, s.plain = bytes, used, 0, false }
	if swap && unusedSoon(to) && w.giveSlot(to, placed) {
		return nil
	}
	if swap {
		os.Remove(to)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	placed()
	return nil
}

// sealedUse is what the pages of a sealed file and their sums take, 0 if that is not
// known.
func sealedUse(path string) int64 {
	f, err := tapedir.OpenForCopy(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	sums, err := sqlitefile.SumsOf(f)
	if err != nil {
		return 0
	}
	return int64(sums.Pages())*(pageSize+4) + int64(sqlitefile.SumsEnd)
}

// makeSlotsFree removes the oldest segments if the next one, and the one to be sealed,
// would find no slot because others took what the reserve gave up.
func (w *Writer) makeSlotsFree() {
	for w.shortOfSlots() {
		why := tapelog.ExpiredFull
		if u := w.usage(); u.kept+4*u.next > w.room() { // it is about to go in any case
			why = tapelog.ExpiredSize
		}
		if !w.expireOldest(why) {
			return
		}
	}
}

// shortOfSlots reports whether the next segment or the one to be sealed will find no
// slot.
func (w *Writer) shortOfSlots() bool {
	r := &w.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == "" || r.slot == 0 || !r.full {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	have := len(r.free) + len(w.catalog.expired)
	for _, s := range w.catalog.list {
		if s.target > 0 {
			have++
		}
	}
	return have < 2
}

// recycle makes a segment that has expired a free slot, if nobody has it open. It
// reports whether nothing is left of it.
func (w *Writer) recycle(e *expired) bool {
	if !w.slotted() {
		return false
	}
	path := e.path + tapedir.ExpiringSuffix
	for _, suffix := range retain.SegmentSuffixes {
		if suffix != tapedir.ExpiringSuffix && tapedir.IsThere(e.path+suffix) {
			return false
		}
	}
	if tapedir.SyncDir(w.dir) != nil || !retain.Unused(path) {
		return false
	}
	return w.giveSlot(path, func() { e.bytes = 0 })
}

// readerPatience is for how long a reader may go on copying a recorded segment that was
// sealed meanwhile before its slot is lost to the reserve.
const readerPatience = 2 * time.Second

// unusedSoon is [retain.Unused] for a file that readers copy and close.
func unusedSoon(path string) bool {
	for start := time.Now(); time.Since(start) < readerPatience; time.Sleep(20 * time.Millisecond) {
		if retain.Unused(path) {
			return true
		}
	}
	return false
}

// beginReserve finds or makes the reserve before anything is written to the tape. The
// newest segment is no part of the catalog yet.
func (w *Writer) beginReserve(newest int) {
	w.openReserve()
	if w.reserve.dir == "" {
		return
	}
	active := &stored{path: filepath.Join(w.dir, tapedir.SegmentName(newest))}
	active.measure()
	w.mu.Lock()
	w.catalog.making = active.bytes
	w.catalog.slot = w.reserve.slot
	w.mu.Unlock()
	if w.reserve.slot > 0 {
		w.makeWAL(active.path)
		w.makeSorting()
	}
	w.adjustReserve()
}

// makeWAL makes sure that the active segment, or the next one, will have a WAL of full
// length.
func (w *Writer) makeWAL(active string) {
	if info, err := os.Lstat(active + "-wal"); err == nil {
		w.mu.Lock()
		w.catalog.making += max(0, w.reserve.wal-info.Size()) // see fillWAL
		w.mu.Unlock()
	} else if err := fallocateFile(filepath.Join(w.dir, spareWALName), w.reserve.wal); err != nil {
		w.log.Warn("no room reserved for a WAL", "path", w.dir, "error", err)
	}
	w.countSpareWAL()
}

// fallocateFile makes a file, or makes it as long as that, with blocks for all of it.
func fallocateFile(path string, bytes int64) error {
	if info, err := os.Lstat(path); err == nil && info.Size() >= bytes && retain.BlocksOf(info) >= bytes {
		return nil // asking again takes room for the moment (xfs)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, tapedir.BirthMode)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, bytes), f.Close())
}

// spilledSlot is the length of a slot from which on sealing may not sort in memory.
const spilledSlot = 3 << 20

// makeSorting makes the file in which sealing sorts: a quarter of a slot is more than
// was ever seen.
func (w *Writer) makeSorting() {
	path := filepath.Join(w.dir, segment.SortName)
	if w.reserve.slot < spilledSlot {
		return
	}
	if err := fallocateFile(path, w.reserve.slot/4); err != nil {
		w.log.Warn("no room reserved to sort in", "path", path, "error", err)
	}
	bytes := retain.AllocatedAt(path)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalog.sorting = bytes
}

// continueWith opens the newest segment to go on with it. If it was stopped it has the
// spare WAL then.
func (w *Writer) continueWith(path string, number int) (*activeSegment, error) {
	lent := w.slotted() && !tapedir.IsThere(path+"-wal")
	if lent {
		if err := w.placeWAL(path); err != nil {
			w.log.Warn("spare WAL not used", "path", path, "error", err)
		}
	}
	s, err := continueSegment(path, number)
	if err != nil && lent { // nothing was written to it
		if rerr := os.Rename(path+"-wal", filepath.Join(w.dir, spareWALName)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			w.log.Warn("WAL not kept", "path", path, "error", rerr)
		}
		w.mu.Lock()
		w.catalog.making = 0
		w.mu.Unlock()
		w.countSpareWAL()
	}
	return s, err
}

// unplace takes placeFiles back.
func (w *Writer) unplace(path string) {
	spare := filepath.Join(w.dir, spareWALName)
	if tapedir.IsThere(path+"-wal") && !tapedir.IsThere(spare) {
		if err := os.Rename(path+"-wal", spare); err != nil {
			w.log.Warn("WAL not kept", "path", path, "error", err)
		}
	}
	spareBytes := retain.AllocatedAt(spare)
	done := func() { w.catalog.making, w.catalog.spareWAL = 0, spareBytes }
	if tapedir.SyncDir(w.dir) == nil && w.giveSlot(path, done) {
		return
	}
	removeSegment(path)
	w.mu.Lock()
	defer w.mu.Unlock()
	done()
}

// discard removes a segment that never held anything.
func (w *Writer) discard(s *activeSegment) {
	if err := w.spareWAL(s); err != nil {
		w.log.Warn("WAL not kept", "path", s.path, "error", err)
	}
	segment.CloseConn(s.conn)
	w.unplace(s.path)
}
