package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// A slot is a file of the reserve that has its full length on the disk. What becomes a
// segment gets one by its name, writes over what is in it, and nothing is freed on the
// way: nobody who fills the disk can come between. The same holds for the way back,
// when a segment is removed, or its recorded form after it was sealed. So all of them
// are as long as a slot: a sealed one has zeros between its last page and its page
// sums, an active one is longer than its header says, which SQLite goes by.
//
// There are three dangers in using a file again, all silent:
//
//   - who has a removed segment open would read another one. It is used again only if
//     the kernel says that nobody has it open (pinned.go); held ones have a second name
//     and are not used again.
//   - frames that an old WAL has for another segment would be replayed. A WAL that is
//     used again begins with zeros, which makes it empty, and its old name is durably
//     gone before anything is written to it.
//   - a recorded segment would be judged by the page sums of the sealed one that had the
//     slot before: they are at the end of the file. What says that they are there is
//     written over before the slot is used.
type slots struct {
	slot int64 // length of one, bytes; 0: there are none
	wal  int64 // length of the WAL of a segment, bytes
	free []int // numbers of those that hold nothing
	last int   // the highest number that was used
}

// slotsInBudget is how many slots a tape is divided into. Three of them hold no
// history: that of the next segment, that into which one is sealed, and on the average
// half of the active one and the WAL.
const slotsInBudget = 48

// minSlotted is the size of a tape below which there are no slots, bytes: too much of
// each would be tables without rows.
const minSlotted = 16 << 20

// Names of the files of the reserve that are no slots: the other is segment.SortName.
const (
	spareWALName = reserveName + "-wal" // the WAL of the next segment
)

// plan decides how long slots are on a tape that may have so many bytes and has room
// for so many.
func (s *slots) plan(budget, room int64) {
	s.wal = walLength(room)
	s.slot = budget / slotsInBudget / pageSize * pageSize
	if budget < minSlotted || room < s.slot*slotsInBudget/2 {
		s.slot = 0
	}
}

// walLength is how long the WAL becomes on a tape of that size, bytes: what it may
// keep, and one transaction.
func walLength(room int64) int64 {
	keep := retain.WALBytes(room)
	return (keep + min(keep, mostTransaction) + retain.OtherFiles/4) / pageSize * pageSize
}

func slotName(n int) string { return fmt.Sprintf("%s-%d", reserveName, n) }

func parseSlotName(name string) (n int, ok bool) {
	digits, ok := strings.CutPrefix(name, reserveName+"-")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n > 0 && slotName(n) == name
}

// fits reports whether a file can be used as a slot, and cuts it if it is too long.
func (s *slots) fits(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || s.slot == 0 || !info.Mode().IsRegular() || info.Size() < s.slot || retain.BlocksOf(info) < s.slot {
		return false
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Nlink != 1 {
		return false
	}
	return info.Size() == s.slot || os.Truncate(path, s.slot) == nil
}

// findSlots finds the slots that earlier recorders have made, and those that were on
// the way to or from a segment when one was killed.
func (r *reserve) findSlots() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	errs := []error{tapedir.SyncDir(r.dir)} // before anything is written over
	for _, e := range entries {
		n, ok := parseSlotName(e.Name())
		switch {
		case ok && r.fits(r.path(e.Name())):
			r.free, r.last, r.size = append(r.free, n), max(r.last, n), r.size+r.slot
		case ok, e.Name() == spareWALName && (r.slot == 0 || !onlyName(r.path(spareWALName))), e.Name() == segment.SortName && r.slot == 0:
			errs = append(errs, os.Remove(r.path(e.Name())))
		}
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), tapedir.SealingSuffix); ok {
			if _, known := tapedir.ParseSegmentName(name); known && r.slot > 0 && r.fits(r.path(e.Name())) {
				errs = append(errs, r.add(r.path(e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// onlyName reports whether a file has no other name.
func onlyName(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1
}

// add makes the file at path a free slot.
func (r *reserve) add(path string) error {
	n := r.last + 1
	if err := os.Chmod(path, tapedir.BirthMode); err != nil {
		return err
	}
	r.step("slot not named")
	if err := os.Rename(path, r.path(slotName(n))); err != nil {
		return err
	}
	r.step("slot named")
	r.free, r.last, r.size = append(r.free, n), n, r.size+r.slot
	return nil
}

// makeSlot makes a slot of the rest, which is as long as one.
func (r *reserve) makeSlot() error {
	r.rest.Close()
	r.rest = nil
	r.size -= r.slot
	return r.add(r.path(reserveName))
}

// breakSlot makes a slot the rest, of which there is nothing.
func (r *reserve) breakSlot() error {
	if r.rest != nil {
		r.rest.Close()
		r.rest = nil
	}
	if len(r.free) == 0 {
		return errors.New("the reserve is smaller than it was")
	}
	n := r.free[len(r.free)-1]
	if err := os.Rename(r.path(slotName(n)), r.path(reserveName)); err != nil {
		return err
	}
	r.step("slot broken")
	r.free = r.free[:len(r.free)-1]
	return r.openRest()
}

// takeSlot gives a slot the name of a file that is not there, and reports whether
// there was one. It begins with start by then, durably, and has its first mode. counted says that its bytes are the segment's now; it is called
// while the reserve and w.mu are held.
func (w *Writer) takeSlot(to string, start []byte, counted func(bytes int64)) bool {
	r := &w.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == "" || len(r.free) == 0 {
		return false
	}
	n := r.free[len(r.free)-1]
	if err := writeStart(r.path(slotName(n)), start, r.slot); err != nil {
		w.log.Warn("slot not used", "path", to, "error", err)
		return false
	}
	r.step("slot emptied")
	if err := unix.Renameat2(unix.AT_FDCWD, r.path(slotName(n)), unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		w.log.Warn("slot not used", "path", to, "error", err)
		return false
	}
	r.step("slot taken")
	r.free, r.size = r.free[:len(r.free)-1], r.size-r.slot
	w.mu.Lock()
	defer w.mu.Unlock()
	counted(r.slot)
	return true
}

// giveSlot makes a file whose old name is durably gone a free slot, and reports
// whether it could. counted says that its bytes are not the segment's any more; it is
// called while the reserve and w.mu are held.
func (w *Writer) giveSlot(path string, counted func()) bool {
	r := &w.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == "" || !r.fits(path) {
		return false
	}
	if err := r.add(path); err != nil {
		w.log.Warn("slot not kept", "path", path, "error", err)
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	counted()
	return true
}

// slotted reports whether there are slots.
func (w *Writer) slotted() bool {
	w.reserve.mu.Lock()
	defer w.reserve.mu.Unlock()
	return w.reserve.dir != "" && w.reserve.slot > 0
}

// canStart reports whether there are slots for the next segment and for the one to be
// sealed: then no room is needed that is free to others, and none must be given up.
func (w *Writer) canStart() bool {
	w.reserve.mu.Lock()
	defer w.reserve.mu.Unlock()
	return len(w.reserve.free) >= 2
}

// placeFiles makes the files of a new segment from a slot and the spare WAL: a database
// without tables, and a WAL without frames. If there is no slot the database grows; it
// has the spare WAL all the same, or there would be two of full length. It reports
// whether the files are made.
func (w *Writer) placeFiles(path string) (bool, error) {
	taken := w.takeSlot(path, emptyDatabase(), func(bytes int64) { w.catalog.making += bytes })
	if !taken && (!w.slotted() || createFile(path, emptyDatabase()) != nil) {
		return false, nil // createSegment says what is wrong
	}
	return true, w.placeWAL(path)
}

// writeStart writes over the start of a file, and over the end of one of length bytes,
// and gives it its first mode, durably.
func writeStart(path string, start []byte, length int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(start, 0)
	if length > 0 && err == nil {
		_, err = f.WriteAt(make([]byte, sqlitefile.SumsEnd), length-int64(sqlitefile.SumsEnd))
	}
	if err = errors.Join(err, f.Chmod(tapedir.BirthMode)); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// emptyDatabase is the one page of a database in WAL mode that has no tables, see
// https://sqlite.org/fileformat2.html.
func emptyDatabase() []byte {
	p := make([]byte, pageSize)
	copy(p, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(p[16:], pageSize)
	p[18], p[19] = 2, 2                           // written and read in WAL mode
	p[21], p[22], p[23] = 64, 32, 32              // fixed
	binary.BigEndian.PutUint32(p[24:], 1)         // changes
	binary.BigEndian.PutUint32(p[28:], 1)         // pages
	binary.BigEndian.PutUint32(p[92:], 1)         // changes when the number of pages was right
	p[100] = 13                                   // a leaf of the table of tables
	binary.BigEndian.PutUint16(p[105:], pageSize) // where its cells begin
	return p
}

// sealedDatabase is an emptyDatabase that has no WAL: all of a sealed segment is in one file.
func sealedDatabase() []byte {
	p := emptyDatabase()
	p[18], p[19] = 1, 1
	return p
}
