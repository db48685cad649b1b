package store

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A legal hold keeps the segments of a time range: each has a second name in the
// directory held/ID, as a hard link or, where there are none, as a copy. Retention
// goes on removing the first names, and leaves the second. A hold whose range has
// not ended takes in what is sealed later.

// holdFile describes a hold, in its directory.
const holdFile = "hold.json"

// Hold is a time range whose segments are kept until it is released.
type Hold struct {
	ID       string        `json:"id"`
	Created  time.Time     `json:"created"`
	Since    time.Time     `json:"since,omitzero"` // zero: from the beginning
	Until    time.Time     `json:"until,omitzero"` // zero: without an end
	Reason   string        `json:"reason"`
	Segments []HeldSegment `json:"segments"`
	Missing  []string      `json:"missing,omitempty"` // what should be held and is not, with the reason
}

// HeldSegment is a segment under a hold.
type HeldSegment struct {
	Number int       `json:"number"`
	File   string    `json:"file"`
	SHA256 string    `json:"sha256"`
	Bytes  int64     `json:"bytes"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
}

// Bytes is what the segments of the hold take.
func (h *Hold) Bytes() (sum int64) {
	for _, s := range h.Segments {
		sum += s.Bytes
	}
	return sum
}

// overlaps reports whether a segment is in the range.
func (h *Hold) overlaps(from, to int64) bool {
	return (h.Until.IsZero() || from == 0 || from < h.Until.UnixNano()) && (h.Since.IsZero() || to == 0 || to >= h.Since.UnixNano())
}

// HeldPath is the directory that has the segments of a hold: a tape that can be
// queried like any other.
func HeldPath(dir, id string) string { return filepath.Join(dir, heldDir, id) }

// Holds lists the holds of a tape, oldest first.
func Holds(dir string) ([]Hold, error) {
	entries, err := os.ReadDir(filepath.Join(dir, heldDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Op: "list holds", Path: dir, Err: bare(err), Hint: hintFor(err)}
	}
	var holds []Hold
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		text, err := readSmall(filepath.Join(HeldPath(dir, e.Name()), holdFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue // being made or removed
		}
		var h Hold
		if err == nil {
			err = json.Unmarshal(text, &h)
		}
		if err == nil && h.ID != e.Name() {
			err = errors.New("it describes another")
		}
		if err != nil {
			return nil, &Error{Op: "read hold", Path: HeldPath(dir, e.Name()), Err: bare(err), Hint: hintFor(err)}
		}
		holds = append(holds, h)
	}
	slices.SortFunc(holds, func(a, b Hold) int { return a.Created.Compare(b.Created) })
	return holds, nil
}

// hold makes a hold over the segments of a range. The active segment is closed
// when it is part of it.
func (w *Writer) hold(r Request) (*Hold, error) {
	if strings.TrimSpace(r.Reason) == "" {
		return nil, &Error{Op: "hold", Path: w.dir, Err: errors.New("a hold needs a reason"), Hint: "give it with --reason"}
	}
	h := &Hold{Created: time.Now().UTC(), Since: r.Since, Until: r.Until, Reason: Escape([]byte(r.Reason)), Segments: []HeldSegment{}}
	h.ID = h.Created.Format("20060102T150405.000")
	if err := w.closeFor(h); err != nil {
		return nil, err
	}
	inRange := func(s *stored) bool { return h.overlaps(s.from, s.to) }
	w.hasten(inRange)
	w.waitForKeeper(inRange)
	w.holding.Lock()
	defer w.holding.Unlock()
	chosen, bytes := w.overlapping(h)
	if ended := !h.Until.IsZero() && !h.Until.After(h.Created); ended && len(chosen) == 0 {
		return nil, &Error{Op: "hold", Path: w.dir, Err: errors.New("no segment covers any of that time"), Hint: "conntape status says from when to when there is a recording"}
	}
	if err := w.roomToHold(bytes); err != nil {
		return nil, err
	}
	dir := HeldPath(w.dir, h.ID)
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, &Error{Op: "make hold", Path: d, Err: bare(err)}
		}
		if err := giveToGroup(d, dirMode); err != nil {
			return nil, &Error{Op: "make hold", Path: d, Err: err}
		}
		if err := syncDir(filepath.Dir(d)); err != nil {
			return nil, &Error{Op: "make hold", Path: d, Err: err}
		}
	}
	if err := h.save(dir); err != nil {
		return nil, &Error{Op: "make hold", Path: dir, Err: bare(err)}
	}
	for _, s := range chosen {
		if err := w.keepFor(h, s); err != nil {
			return h, err
		}
	}
	return h, nil
}

// closeFor closes the active segment if its time is part of the hold.
func (w *Writer) closeFor(h *Hold) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	s := w.seg
	if s == nil || s.empty() || !h.overlaps(s.created+s.wallStep, s.heartbeat+s.wallStep) {
		return nil
	}
	if err := w.rotate(ReasonRequest); err != nil {
		return err
	}
	w.makeRoom(growth{})
	w.wakeKeeper()
	return nil
}

// overlapping returns the sealed segments of the range, and their size. What is
// there and not sealed is noted as missing.
func (w *Writer) overlapping(h *Hold) (chosen []*stored, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.catalog.list {
		switch {
		case !h.overlaps(s.from, s.to):
		case s.state == sealed:
			chosen = append(chosen, s)
			bytes += s.bytes
		default:
			h.Missing = append(h.Missing, segmentName(s.number)+" could not be sealed")
		}
	}
	return chosen, bytes
}

// roomToHold refuses what would take more than holds may.
func (w *Writer) roomToHold(bytes int64) error {
	holds, err := Holds(w.dir)
	if err != nil {
		return err
	}
	sum := bytes
	for _, h := range holds {
		sum += h.Bytes()
	}
	if most := w.o.Limits.MaxHeldBytes; most > 0 && sum > most {
		return &Error{Op: "hold", Path: w.dir, Err: fmt.Errorf("%d bytes would be held, and %d may be", sum, most),
			Hint: "release another hold, hold a shorter time, or record with a larger --max-held"}
	}
	return nil
}

// keepFor gives a sealed segment its second name. The caller holds w.holding.
func (w *Writer) keepFor(h *Hold, s *stored) error {
	file := segmentName(s.number)
	to := filepath.Join(HeldPath(w.dir, h.ID), file)
	if s.sha == ([32]byte{}) {
		sum, _, err := hashFile(s.path, nil)
		if err != nil {
			return &Error{Op: "hold segment", Path: s.path, Err: bare(err)}
		}
		w.mu.Lock()
		s.sha = sum
		w.mu.Unlock()
	}
	if err := w.linkOrCopy(s.path, to); err != nil {
		h.Missing = append(h.Missing, fmt.Sprintf("%s: %v", file, bare(err)))
		return errors.Join(&Error{Op: "hold segment", Path: s.path, Err: bare(err)}, h.save(HeldPath(w.dir, h.ID)))
	}
	h.Segments = append(h.Segments, HeldSegment{Number: s.number, File: file, SHA256: fmt.Sprintf("%x", s.sha), Bytes: s.bytes,
		From: time.Unix(0, s.from).UTC(), To: time.Unix(0, s.to).UTC()})
	if err := h.save(HeldPath(w.dir, h.ID)); err != nil {
		return &Error{Op: "write hold", Path: to, Err: bare(err)}
	}
	w.tell(SegmentHeld{Hold: h.ID, Segment: s.number, File: file, SHA256: s.sha, Reason: h.Reason})
	return nil
}

// tellHoldsAgain tells of every segment that is held: the recorder before may have
// been killed when it had held one and not yet said so.
func (w *Writer) tellHoldsAgain() {
	w.holding.Lock()
	defer w.holding.Unlock()
	holds, err := Holds(w.dir)
	if err != nil {
		w.log.Error("holds not read", "path", w.dir, "error", err)
		return
	}
	for _, h := range holds {
		for _, s := range h.Segments {
			e := SegmentHeld{Hold: h.ID, Segment: s.Number, File: s.File, Reason: h.Reason}
			if n, err := hex.Decode(e.SHA256[:], []byte(s.SHA256)[:min(len(s.SHA256), 2*len(e.SHA256))]); err != nil || n != len(e.SHA256) {
				w.log.Error("hold not understood", "hold", h.ID, "segment", s.Number)
				continue
			}
			w.tell(e)
		}
	}
}

// linkOrCopy gives a sealed file another name, or makes a durable copy of it.
func (w *Writer) linkOrCopy(from, to string) error {
	if err := clearImmutable(from); err != nil { // it cannot be linked with the flag
		return err
	}
	err := os.Link(from, to)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) {
		if err = copySealed(from, to); err != nil {
			os.Remove(to)
		}
	}
	if err != nil {
		return err
	}
	if w.o.Immutable {
		if err := setImmutable(to); err != nil {
			w.log.Warn("segment not made immutable", "path", to, "error", err)
		}
	}
	return syncDir(filepath.Dir(to))
}

func copySealed(from, to string) error {
	f, err := openForCopy(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copyFile(f, to); err != nil {
		return err
	}
	if err := giveToGroup(to, closedMode); err != nil {
		return err
	}
	return syncFile(to)
}

func (h *Hold) save(dir string) error {
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(dir, holdFile), append(text, '\n'), fileMode)
}

// holdSealed takes a segment that was sealed just now into the holds whose range
// it is in. It belongs to the keeper.
func (w *Writer) holdSealed(s *stored) {
	w.holding.Lock()
	defer w.holding.Unlock()
	holds, err := Holds(w.dir)
	if err != nil {
		w.log.Error("holds not read", "path", w.dir, "error", err)
		return
	}
	for i := range holds {
		h := &holds[i]
		had := slices.ContainsFunc(h.Segments, func(o HeldSegment) bool { return o.Number == s.number })
		if had || !h.overlaps(s.from, s.to) {
			continue
		}
		err := w.roomToHold(s.bytes)
		if err == nil {
			err = w.keepFor(h, s)
		} else {
			h.Missing = append(h.Missing, fmt.Sprintf("%s: %v", segmentName(s.number), err))
			err = errors.Join(err, h.save(HeldPath(w.dir, h.ID)))
		}
		if err != nil {
			w.log.Error("segment not held", "path", s.path, "hold", h.ID, "error", err)
		}
	}
}

// guardHeld makes the second names of a segment immutable again: the flag, which is
// the file's, was taken off to remove the first name.
func (w *Writer) guardHeld(number int) {
	entries, err := os.ReadDir(filepath.Join(w.dir, heldDir))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, e := range entries {
		if name := filepath.Join(HeldPath(w.dir, e.Name()), segmentName(number)); isThere(name) {
			err = errors.Join(err, setImmutable(name))
		}
	}
	if err != nil {
		w.log.Warn("held segment not made immutable", "segment", number, "error", err)
	}
}

// release ends a hold: its segments lose their second names.
func (w *Writer) release(r Request) (*Hold, error) {
	w.holding.Lock()
	defer w.holding.Unlock()
	holds, err := Holds(w.dir)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(holds, func(h Hold) bool { return h.ID == r.Hold })
	if i < 0 {
		return nil, &Error{Op: "release hold", Path: w.dir, Err: fmt.Errorf("there is no hold %s", Escape([]byte(r.Hold))), Hint: "conntape hold lists them"}
	}
	h := &holds[i]
	w.tell(HoldReleased{Hold: h.ID, Reason: Escape([]byte(r.Reason))})
	dir := HeldPath(w.dir, h.ID)
	for _, s := range h.Segments {
		path := filepath.Join(dir, segmentName(s.Number))
		err := clearImmutable(path)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{Op: "release hold", Path: path, Err: bare(err)}
		}
		if first := filepath.Join(w.dir, segmentName(s.Number)); w.o.Immutable && closedFile(first) {
			if err := setImmutable(first); err != nil {
				w.log.Warn("segment not made immutable", "path", first, "error", err)
			}
		}
	}
	if err := os.Remove(filepath.Join(dir, holdFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Op: "release hold", Path: dir, Err: bare(err)}
	}
	if err := os.Remove(dir); err != nil {
		return nil, &Error{Op: "release hold", Path: dir, Err: bare(err), Hint: "something else is in that directory"}
	}
	return h, syncDir(filepath.Dir(dir))
}
