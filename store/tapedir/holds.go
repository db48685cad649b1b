package tapedir

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/conntape/conntape/store/failure"
)

// HoldFile describes a hold, in its directory.
const HoldFile = "hold.json"

// Hold is a time range whose segments are kept until it is released.
type Hold struct {
	ID       string        `json:"id"`
	Created  time.Time     `json:"created"`
	Since    time.Time     `json:"since,omitzero"` // zero: from the beginning
	Until    time.Time     `json:"until,omitzero"` // zero: without an end
	Reason   string        `json:"reason"`
	Segments []HeldSegment `json:"segments"`
	Missing  []string      `json:"missing,omitempty"` // segments that should be held but are not, with the reason
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

// Bytes returns the size of the held segments.
func (h *Hold) Bytes() (sum int64) {
	for _, s := range h.Segments {
		sum += s.Bytes
	}
	return sum
}

// Overlaps reports whether a segment overlaps the range.
func (h *Hold) Overlaps(from, to int64) bool {
	return (h.Until.IsZero() || from == 0 || from < h.Until.UnixNano()) && (h.Since.IsZero() || to == 0 || to >= h.Since.UnixNano())
}

// HeldPath is the directory of a hold's segments, which can be queried like a tape.
func HeldPath(dir, id string) string { return filepath.Join(dir, HeldDir, id) }

// MostHold limits the file of a hold, in bytes: a held segment takes some 250.
const MostHold = 64 << 20

// Holds lists the holds of a tape, oldest first.
func Holds(dir string) ([]Hold, error) {
	entries, err := os.ReadDir(filepath.Join(dir, HeldDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &failure.Error{Op: "list holds", Path: dir, Err: failure.Bare(err), Hint: failure.HintFor(err)}
	}
	var holds []Hold
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		text, err := ReadUpTo(filepath.Join(HeldPath(dir, e.Name()), HoldFile), MostHold)
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
			return nil, &failure.Error{Op: "read hold", Path: HeldPath(dir, e.Name()), Err: failure.Bare(err), Hint: failure.HintFor(err)}
		}
		holds = append(holds, h)
	}
	slices.SortFunc(holds, func(a, b Hold) int { return a.Created.Compare(b.Created) })
	return holds, nil
}

func (h *Hold) Save(dir string) error {
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	return WriteWhole(filepath.Join(dir, HoldFile), append(text, '\n'), FileMode)
}
