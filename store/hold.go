package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// A legal hold keeps the segments of a time range: each has a second name in the
// directory held/ID, as a hard link or, where there are none, as a copy. Retention
// goes on removing the first names, and leaves the second. A hold whose range has
// not ended takes in what is sealed later.

// hold makes a hold over the segments of a range. The active segment is closed
// when it is part of it.
func (w *Writer) hold(r Request) (*tapedir.Hold, error) {
	if strings.TrimSpace(r.Reason) == "" {
		return nil, &failure.Error{Op: "hold", Path: w.dir, Err: errors.New("a hold needs a reason"), Hint: "give it with --reason"}
	}
	h := &tapedir.Hold{Created: time.Now().UTC(), Since: r.Since, Until: r.Until, Reason: escape.Bytes([]byte(r.Reason)), Segments: []tapedir.HeldSegment{}}
	h.ID = h.Created.Format("20060102T150405.000")
	if err := w.closeFor(h); err != nil {
		return nil, err
	}
	last := w.newestClosed() // what is closed from now on is held when it is sealed: nobody waits for that
	inRange := func(s *stored) bool { return s.number <= last && h.Overlaps(s.from, s.to) }
	w.hasten(inRange)
	w.waitForKeeper(inRange)
	w.holding.Lock()
	defer w.holding.Unlock()
	chosen, bytes := w.overlapping(h, last)
	if ended := !h.Until.IsZero() && !h.Until.After(h.Created); ended && len(chosen) == 0 {
		return nil, &failure.Error{Op: "hold", Path: w.dir, Err: errors.New("no segment covers any of that time"), Hint: "conntape status says from when to when there is a recording"}
	}
	if err := w.roomToHold(bytes); err != nil {
		return nil, err
	}
	dir := tapedir.HeldPath(w.dir, h.ID)
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, tapedir.DirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, &failure.Error{Op: "make hold", Path: d, Err: failure.Bare(err)}
		}
		if err := tapedir.GiveToGroup(d, tapedir.DirMode); err != nil {
			return nil, &failure.Error{Op: "make hold", Path: d, Err: err}
		}
		if err := tapedir.SyncDir(filepath.Dir(d)); err != nil {
			return nil, &failure.Error{Op: "make hold", Path: d, Err: err}
		}
	}
	if err := h.Save(dir); err != nil {
		return nil, &failure.Error{Op: "make hold", Path: dir, Err: failure.Bare(err)}
	}
	for _, s := range chosen {
		if err := w.keepFor(h, s); err != nil {
			return h, err
		}
	}
	return h, nil
}

// closeFor closes the active segment if its time is part of the hold.
func (w *Writer) closeFor(h *tapedir.Hold) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	s := w.seg
	if s == nil || s.empty() || !h.Overlaps(s.created+s.wallStep, s.heartbeat+s.wallStep) {
		return nil
	}
	if err := w.rotate(ReasonRequest); err != nil {
		return err
	}
	w.makeRoom(growth{})
	w.wakeKeeper()
	return nil
}

// newestClosed returns the number of the newest segment that takes no more batches, 0 if there is none.
func (w *Writer) newestClosed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.catalog.list); n > 0 {
		return w.catalog.list[n-1].number
	}
	return 0
}

// overlapping returns the sealed segments of the range, and their size. What is
// there up to number last and not sealed is noted as missing.
func (w *Writer) overlapping(h *tapedir.Hold, last int) (chosen []*stored, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.catalog.list {
		switch {
		case !h.Overlaps(s.from, s.to):
		case s.state == sealed:
			chosen = append(chosen, s)
			bytes += s.bytes
		case s.number <= last:
			h.Missing = append(h.Missing, tapedir.SegmentName(s.number)+" could not be sealed")
		}
	}
	return chosen, bytes
}

// roomToHold refuses what would take more than holds may.
func (w *Writer) roomToHold(bytes int64) error {
	holds, err := tapedir.Holds(w.dir)
	if err != nil {
		return err
	}
	sum := bytes
	for _, h := range holds {
		sum += h.Bytes()
	}
	if most := w.o.Limits.MaxHeldBytes; most > 0 && sum > most {
		return &failure.Error{Op: "hold", Path: w.dir, Err: fmt.Errorf("%d bytes would be held, and %d may be", sum, most),
			Hint: "release another hold, hold a shorter time, or record with a larger --max-held"}
	}
	return nil
}

// keepFor gives a sealed segment its second name. The caller holds w.holding.
func (w *Writer) keepFor(h *tapedir.Hold, s *stored) error {
	file := tapedir.SegmentName(s.number)
	to := filepath.Join(tapedir.HeldPath(w.dir, h.ID), file)
	if s.sha == ([32]byte{}) {
		sum, _, err := segment.HashFile(s.path, w.patience.Done())
		if err != nil {
			return &failure.Error{Op: "hold segment", Path: s.path, Err: failure.Bare(err)}
		}
		w.mu.Lock()
		s.sha = sum
		w.mu.Unlock()
	}
	if err := w.linkOrCopy(s.path, to); err != nil {
		if w.patience.Err() != nil {
			return err // the next recorder does it
		}
		h.Missing = append(h.Missing, fmt.Sprintf("%s: %v", file, failure.Bare(err)))
		return errors.Join(&failure.Error{Op: "hold segment", Path: s.path, Err: failure.Bare(err)}, h.Save(tapedir.HeldPath(w.dir, h.ID)))
	}
	h.Segments = append(h.Segments, tapedir.HeldSegment{Number: s.number, File: file, SHA256: fmt.Sprintf("%x", s.sha), Bytes: s.bytes,
		From: time.Unix(0, s.from).UTC(), To: time.Unix(0, s.to).UTC()})
	h.Missing = slices.DeleteFunc(h.Missing, func(text string) bool { return strings.HasPrefix(text, file) })
	if err := h.Save(tapedir.HeldPath(w.dir, h.ID)); err != nil {
		return &failure.Error{Op: "write hold", Path: to, Err: failure.Bare(err)}
	}
	w.tell(SegmentHeld{Hold: h.ID, Segment: s.number, File: file, SHA256: s.sha, Reason: h.Reason})
	return nil
}

// tellHoldsAgain tells of every held segment that the log does not know as held: the recorder before may have been killed when
// it had held one and not yet said so.
func (w *Writer) tellHoldsAgain() {
	w.holding.Lock()
	defer w.holding.Unlock()
	holds, err := tapedir.Holds(w.dir)
	if err != nil {
		w.log.Error("holds not read", "path", w.dir, "error", err)
		return
	}
	known := map[SegmentHeld]bool{}
	if len(holds) > 0 {
		known = w.heldByLog()
	}
	for _, h := range holds {
		for _, s := range h.Segments {
			e := SegmentHeld{Hold: h.ID, Segment: s.Number, File: s.File, Reason: h.Reason}
			if n, err := hex.Decode(e.SHA256[:], []byte(s.SHA256)[:min(len(s.SHA256), 2*len(e.SHA256))]); err != nil || n != len(e.SHA256) {
				w.log.Error("hold not understood", "hold", h.ID, "segment", s.Number)
				continue
			}
			if !known[loggedHold(h.ID, s.Number, e.SHA256)] {
				w.tell(e)
			}
		}
	}
}

// heldByLog returns what the log says of holds, as loggedHold makes it. What it does not say, or cannot be read, is told again.
func (w *Writer) heldByLog() map[SegmentHeld]bool {
	known := map[SegmentHeld]bool{}
	err := tapelog.Scan(filepath.Join(w.dir, tapedir.LogDir), tapelog.KindHold, func(l tapelog.Leaf) error {
		known[loggedHold(l.Cause, l.Segment, l.SHA256)] = true
		return context.Cause(w.patience)
	})
	if err != nil && !errors.Is(err, tapelog.ErrNoLog) && !errors.Is(err, fs.ErrNotExist) {
		w.log.Warn("holds in the log not read", "error", err)
	}
	return known
}

// loggedHold is what a leaf of the log has of a hold of a segment.
func loggedHold(id string, number int, sha [32]byte) SegmentHeld {
	return SegmentHeld{Hold: tapelog.Cut(id), Segment: number, SHA256: sha}
}

// linkOrCopy gives a sealed file another name, or makes a durable copy of it. A recorder that was killed before the hold had it
// may have left the name, or a part of the copy.
func (w *Writer) linkOrCopy(from, to string) error {
	if left, err := os.Lstat(to); err == nil {
		if is, err := os.Lstat(from); err == nil && os.SameFile(left, is) {
			return tapedir.SyncDir(filepath.Dir(to))
		}
		if err := removeHeld(to); err != nil {
			return err
		}
	}
	if err := tapedir.ClearImmutable(from); err != nil { // it cannot be linked with the flag
		return err
	}
	err := os.Link(from, to)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) {
		if err = copySealed(w.patience, from, to); err != nil {
			os.Remove(to)
		}
	}
	if err != nil {
		return err
	}
	if w.o.Immutable {
		if err := tapedir.SetImmutable(to); err != nil {
			w.log.Warn("segment not made immutable", "path", to, "error", err)
		}
	}
	return tapedir.SyncDir(filepath.Dir(to))
}

func copySealed(ctx context.Context, from, to string) error {
	f, err := tapedir.OpenForCopy(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := segment.CopyFile(ctx, f, to, math.MaxInt64); err != nil {
		return err
	}
	if err := tapedir.GiveToGroup(to, tapedir.ClosedMode); err != nil {
		return err
	}
	return tapedir.SyncFile(to)
}

// holdSealed takes a segment that was sealed just now into the holds whose range
// it is in. It belongs to the keeper.
func (w *Writer) holdSealed(s *stored) {
	w.holding.Lock()
	defer w.holding.Unlock()
	holds, err := tapedir.Holds(w.dir)
	if err != nil {
		w.log.Error("holds not read", "path", w.dir, "error", err)
		return
	}
	for i := range holds {
		h := &holds[i]
		had := slices.ContainsFunc(h.Segments, func(o tapedir.HeldSegment) bool { return o.Number == s.number })
		if had || !h.Overlaps(s.from, s.to) {
			continue
		}
		err := w.roomToHold(s.bytes)
		if err == nil {
			err = w.keepFor(h, s)
		} else if missing := fmt.Sprintf("%s: %v", tapedir.SegmentName(s.number), err); !slices.Contains(h.Missing, missing) {
			h.Missing = append(h.Missing, missing)
			err = errors.Join(err, h.Save(tapedir.HeldPath(w.dir, h.ID)))
		}
		if err != nil {
			w.log.Error("segment not held", "path", s.path, "hold", h.ID, "error", err)
		}
	}
}

// holdTheRest takes segments into holds that an earlier recorder, which was stopped or killed, did not get to. It belongs
// to the keeper.
func (w *Writer) holdTheRest() {
	if holds, err := tapedir.Holds(w.dir); err != nil || len(holds) == 0 {
		return
	}
	w.mu.Lock()
	waiting := slices.DeleteFunc(slices.Clone(w.catalog.list), func(s *stored) bool { return s.state != sealed })
	w.mu.Unlock()
	for _, s := range waiting {
		w.holdSealed(s)
	}
}

// errEnding says that a copy ended because the recorder does.
var errEnding = errors.New("the recorder ends; the next one goes on")

// guardHeld makes the second names of a segment immutable again: the flag, which is
// the file's, was taken off to remove the first name.
func (w *Writer) guardHeld(number int) {
	entries, err := os.ReadDir(filepath.Join(w.dir, tapedir.HeldDir))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, e := range entries {
		if name := filepath.Join(tapedir.HeldPath(w.dir, e.Name()), tapedir.SegmentName(number)); tapedir.IsThere(name) {
			err = errors.Join(err, tapedir.SetImmutable(name))
		}
	}
	if err != nil {
		w.log.Warn("held segment not made immutable", "segment", number, "error", err)
	}
}

// release ends a hold: its segments lose their second names.
func (w *Writer) release(r Request) (*tapedir.Hold, error) {
	w.holding.Lock()
	defer w.holding.Unlock()
	holds, err := tapedir.Holds(w.dir)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(holds, func(h tapedir.Hold) bool { return h.ID == r.Hold })
	if i < 0 {
		return nil, &failure.Error{Op: "release hold", Path: w.dir, Err: fmt.Errorf("there is no hold %s", escape.Bytes([]byte(r.Hold))), Hint: "conntape hold lists them"}
	}
	h := &holds[i]
	w.tell(HoldReleased{Hold: h.ID, Reason: escape.Bytes([]byte(r.Reason))})
	dir := tapedir.HeldPath(w.dir, h.ID)
	for _, s := range h.Segments {
		path := filepath.Join(dir, tapedir.SegmentName(s.Number))
		if err := removeHeld(path); err != nil {
			return nil, &failure.Error{Op: "release hold", Path: path, Err: failure.Bare(err)}
		}
		if first := filepath.Join(w.dir, tapedir.SegmentName(s.Number)); w.o.Immutable && tapedir.ClosedFile(first) {
			if err := tapedir.SetImmutable(first); err != nil {
				w.log.Warn("segment not made immutable", "path", first, "error", err)
			}
		}
	}
	if err := removeUnlisted(dir); err != nil {
		return nil, &failure.Error{Op: "release hold", Path: dir, Err: failure.Bare(err)}
	}
	if err := os.Remove(filepath.Join(dir, tapedir.HoldFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &failure.Error{Op: "release hold", Path: dir, Err: failure.Bare(err)}
	}
	if err := os.Remove(dir); err != nil {
		return nil, &failure.Error{Op: "release hold", Path: dir, Err: failure.Bare(err), Hint: "something else is in that directory"}
	}
	return h, tapedir.SyncDir(filepath.Dir(dir))
}

// removeHeld removes the second name of a segment, which may be gone.
func removeHeld(path string) error {
	err := tapedir.ClearImmutable(path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeUnlisted removes from the directory of a hold what a recorder left that was killed: segments that the hold does not
// have, and the description that it was writing.
func removeUnlisted(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if _, isSegment := tapedir.ParseSegmentName(e.Name()); isSegment || e.Name() == tapedir.HoldFile+".tmp" {
			err = errors.Join(err, removeHeld(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
