package store

import (
	"strings"
	"testing"

	"github.com/conntape/conntape/store/segment"
)

// A recorder that takes over what the last one left says so in the gap between them, which has no length; what was in flight is in its
// account, and not in that of the last one. What was read and not written is lost, and counted once.
func TestHandover(t *testing.T) {
	for _, c := range []struct {
		name          string
		stop          bool
		flying, lost  uint64
		seen, lostSum int64
		cause, says   string
	}{
		{"stopped", true, 4, 0, 3, 0, segment.CauseStopped, "nothing was lost"},
		{"killed", false, 4, 0, 3, 0, segment.CauseCrash, "nothing was lost"},
		{"killed in a flood", false, 4, 3, 6, 3, segment.CauseCrash, "but for 3 connects"},
		{"killed in a flood, after a batch", false, 1, 3, 6, 3, segment.CauseCrash, "but for 3 connects"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			o := options(100 * second)
			o.Handover.Next = 77
			w := mustOpenWriter(t, dir, o)
			if n := w.counted[segment.HandoverCounter]; n != 77 {
				t.Errorf("a run begins with handover %d", n)
			}
			world := newWorld()
			counters := segment.Counters{"seen": 3 + c.flying, "stored": 3, "coalesced": 0, "excluded": 0, "lost": 0, "in_flight": c.flying, segment.HandoverCounter: 78}
			batch := Batch{Counters: counters, Now: 103 * second}
			for i := range uint64(3) {
				batch.Connections = append(batch.Connections, world.connection((101+i)*second))
			}
			mustAppend(t, w, batch)
			if c.stop {
				if err := w.Close(Gap{From: 104 * second, Detail: "told to stop"}, counters); err != nil {
					t.Fatal(err)
				}
			} else {
				dir = crash(t, w)
			}
			if n, err := LastHandover(t.Context(), dir, o.BootID); n != 78 || err != nil {
				t.Fatalf("the last handover is %d, %v", n, err)
			}
			if n, err := LastHandover(t.Context(), dir, "another-boot"); n != 0 || err != nil {
				t.Errorf("that of another boot is %d, %v", n, err)
			}
			o = options(110 * second)
			o.Handover = Handover{Before: 78, Lost: c.lost, Next: 80}
			w = mustOpenWriter(t, dir, o)
			if err := w.Close(Gap{From: 111 * second}, nil); err != nil {
				t.Fatal(err)
			}
			tape, err := OpenTape(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer tape.Close()
			coverage, err := tape.Coverage()
			if err != nil {
				t.Fatal(err)
			}
			between := 0
			for _, g := range coverage.Gaps {
				if g.Cause != c.cause || g.To.IsZero() {
					continue
				}
				between++
				if !g.To.Equal(g.From) || g.Lost != (Loss{Known: c.lost}) || !strings.Contains(g.Detail, c.says) {
					t.Errorf("the gap between them: %+v", g)
				}
			}
			n := coverage.Counters
			if between != 1 || int64(n["seen"]) != c.seen || int64(n["lost"]) != c.lostSum || n["in_flight"] != 0 || n[segment.HandedOverCounter] != 0 {
				t.Errorf("%d gaps between them, counters %v", between, n)
			}
		})
	}
}
