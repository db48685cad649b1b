package store

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapelog"
)

// The wall clock is set while a tape is recorded: no reason for alarm. Nor is a
// leaf that was written between a step and its being noticed. A segment whose
// clock was altered shows times at which nothing happened, and is found.
func TestVerifyClock(t *testing.T) {
	year := int64(365 * 24 * time.Hour)
	s := &sealedTape{dir: filepath.Join(t.TempDir(), "tape")}
	o, k := loggedOptions(s.dir, 100*second)
	boot, step := 100*second, int64(0)
	k.clocks = func() (tapelog.Clocks, error) {
		return tapelog.Clocks{Boot: boot, Real: epoch2026 + int64(boot) + step, Sync: "synchronized"}, nil
	}
	w := mustOpenWriter(t, s.dir, o)
	x := newWorld()
	stored := uint64(0)
	write := func(anchors ...Anchor) {
		t.Helper()
		stored++
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(boot)}, Anchors: anchors, Now: boot,
			Counters: segment.Counters{"seen": stored, "stored": stored}})
		k.checkpoint()
	}
	stepBy := func(ns int64) Anchor {
		step += ns
		return Anchor{Boot: boot, Real: epoch2026 + int64(boot) + step, Kind: "step"}
	}
	for _, by := range []int64{0, 10 * year, -20 * year, 10 * year, int64(time.Hour), -int64(time.Hour)} {
		boot += 10 * second
		write()
		boot += 10 * second
		step += by // set, and not noticed yet
		k.checkpoint()
		step -= by
		boot += second / 1000
		write(stepBy(by))
	}
	boot += 10 * second
	write()
	mustClose(t, w, boot)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if v := s.verify(t, proof.Options{}); len(v.Problems) > 0 {
		t.Errorf("steps: %s", problems(v))
	}
	alter(t, s.dir, 1, "UPDATE clock SET offset_ns = offset_ns + 3600000000000 WHERE id = (SELECT max(id) FROM clock)")
	if got := problems(s.verify(t, proof.Options{})); !strings.Contains(got, "1 00000001.db: the wall clock that it shows its times on is 1h0m0s off") {
		t.Errorf("altered: %q", got)
	}
}
