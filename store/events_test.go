package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/conntape/conntape/store/segment"
)

// heard collects events as short lines.
type heard struct{ lines []string }

func (h *heard) listen(e Event) {
	line := fmt.Sprintf("%T", e)[len("store."):]
	switch e := e.(type) {
	case RunStarted:
		line = fmt.Sprintf("%s %d", line, e.Segment)
	case SegmentStarted:
		line = fmt.Sprintf("%s %s after %d: %s", line, e.File, e.Previous, e.Reason)
	case BatchCommitted:
		line = fmt.Sprintf("%s %d/%d of %d", line, e.Segment, e.Number, len(e.Batch.Connections))
	case SegmentSetAside:
		line = fmt.Sprintf("%s %s at %d: %s", line, e.File, e.Batches, e.Cause)
	case SegmentSealed:
		line = fmt.Sprintf("%s %s", line, e.File)
	case SegmentExpired:
		line = fmt.Sprintf("%s %s: %s", line, e.File, e.Why)
	case RunStopped:
		line = fmt.Sprintf("%s %d seen %d", line, e.Segment, e.Counters["seen"])
	}
	h.lines = append(h.lines, line)
}

func TestEventsOfARun(t *testing.T) {
	dir, h := t.TempDir(), &heard{}
	o := options(100 * second)
	o.Events = h.listen
	w := mustOpenWriter(t, dir, o)
	w.now = func(string) (Anchor, error) { return at(103 * second), nil }
	x := newWorld()
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(101 * second)}, Now: 101 * second})
	w.setAside(errors.New("x"))
	mustAppend(t, w, Batch{Now: 102 * second, Counters: segment.Counters{"seen": 1}})
	mustClose(t, w, 110*second)
	want := []string{
		"SegmentStarted 00000001.db after 0: first",
		"RunStarted 1",
		"BatchCommitted 1/1 of 1",
		"SegmentSetAside 00000001.db at 1: x",
		"SegmentStarted 00000002.db after 1: fault",
		"BatchCommitted 2/1 of 0",
		"BatchCommitted 2/2 of 0",
		"RunStopped 2 seen 1",
	}
	if !slices.Equal(h.lines, want) {
		t.Errorf("events:\n%q\nwant:\n%q", h.lines, want)
	}
}
