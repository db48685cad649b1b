package tapedir

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// A hold may have all segments of a tape, however many.
func TestHoldOfManySegments(t *testing.T) {
	dir := t.TempDir()
	h := Hold{ID: "20260701-1", Created: time.Unix(1, 0), Reason: "case"}
	for n := range 10_000 {
		h.Segments = append(h.Segments, HeldSegment{Number: n + 1, File: SegmentName(n + 1), SHA256: fmt.Sprintf("%064x", n), Bytes: 1 << 20, From: time.Unix(int64(n), 1), To: time.Unix(int64(n), 2)})
	}
	if err := os.MkdirAll(HeldPath(dir, h.ID), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.Save(HeldPath(dir, h.ID)); err != nil {
		t.Fatal(err)
	}
	holds, err := Holds(dir)
	if err != nil || len(holds) != 1 || len(holds[0].Segments) != len(h.Segments) {
		t.Errorf("%d holds: %v", len(holds), err)
	}
}
