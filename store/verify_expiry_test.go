package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// With the key that lies on the host somebody writes that retention removed the
// oldest segment, and removes it. Nothing asked retention to.
func TestClaimedExpiries(t *testing.T) {
	const limit = 1 << 30
	s := &sealedTape{dir: filepath.Join(t.TempDir(), "tape")}
	s.record(t, 4, 100*second, func(o *WriterOptions, k *LogKeeper) { o.Limits.MaxBytes, k.o.MaxBytes = limit, limit })
	c, err := tapelog.ReadClocks()
	if err != nil {
		t.Fatal(err)
	}
	stamp := tapelog.Leaf{Boot: c.Boot + 1<<52, Real: time.Now().UnixNano()}
	start := stamp
	start.Kind, start.Tape, start.Host, start.Machine, start.MaxSize = tapelog.KindStart, s.verify(t, proof.Options{}).TapeID, "h", "m", limit
	batch := stamp
	batch.Kind, batch.Segment, batch.Batches = tapelog.KindCheckpoint, 4, 5
	for _, c := range []struct {
		name, cause string
		limit       int64
		stopped     bool
		want        string
	}{
		{"size", tapelog.ExpiredSize, limit, false, "for the size of the tape, which was"},
		{"size, no limit told", tapelog.ExpiredSize, 0, false, "for a limit of 0 bytes, and the limit was 1073741824"},
		{"size, a larger limit", tapelog.ExpiredSize, limit + 1, false, "for a limit of 1073741825 bytes"},
		{"full", tapelog.ExpiredFull, limit, false, "because the disk was full (full), and no gap says so"},
		{"free", "free", limit, false, "which is none of its reasons"},
		{"count", "count", limit, false, "which is none of its reasons"},
		{"after the end", tapelog.ExpiredFull, limit, true, "when no recorder ran"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyTape(t, s.dir)
			if err := os.Remove(filepath.Join(dir, tapedir.SegmentName(1))); err != nil {
				t.Fatal(err)
			}
			expiry := stamp
			expiry.Kind, expiry.Segment, expiry.Cause, expiry.MaxSize = tapelog.KindExpiry, 1, c.cause, c.limit
			leaves := []tapelog.Leaf{start, expiry, batch, batch}
			leaves[3].Segment = 5 // that goes on, in a segment to come
			if c.stopped {
				leaves = leaves[1:2]
			}
			forge(t, dir, leaves...)
			v := (&sealedTape{dir: dir}).verify(t, proof.Options{Key: s.key})
			if text := problems(v); !strings.Contains(text, c.want) {
				t.Errorf("problems: %s", text)
			}
		})
	}
}

// A recorder that was killed after it removed a segment from a full disk could not
// say so: the next one does, once.
func TestRemovalIsRecalled(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 4)
	c, err := tapelog.ReadClocks()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, tapedir.SegmentName(1))); err != nil {
		t.Fatal(err)
	}
	var seal tapelog.Leaf
	err = tapelog.Scan(filepath.Join(s.dir, tapedir.LogDir), tapelog.KindSeal, func(l tapelog.Leaf) error {
		if l.Segment == 1 {
			seal = l
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	start := tapelog.Leaf{Kind: tapelog.KindStart, Boot: c.Boot + 1<<52, Real: c.Real}
	expiry := start
	expiry.Rows, expiry.Connects = seal.Rows, seal.Connects
	expiry.Kind, expiry.Segment, expiry.Cause = tapelog.KindExpiry, 1, tapelog.ExpiredFull
	forge(t, s.dir, start, expiry)
	v := s.verify(t, proof.Options{Key: s.key})
	if len(v.Problems) > 0 || !strings.Contains(strings.Join(v.Notes, " "), "killed before it could say so") {
		t.Errorf("%s%q", problems(v), v.Notes)
	}
	for _, boot := range []uint64{2000, 4000} {
		s.record(t, 1, boot*second, nil)
	}
	if text := problems(s.verify(t, proof.Options{Key: s.key})); text != "" {
		t.Errorf("problems: %s", text)
	}
	tape := mustOpenTape(t, s.dir)
	if n := one(t, tape.Conn(), "SELECT count(*) FROM gaps WHERE cause = 'full' AND detail LIKE '00000001.db%'"); n != "1" {
		t.Errorf("told %s times", n)
	}
}
