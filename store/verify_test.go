package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
)

// sealedTape is a tape that was recorded and stopped, with what its owner keeps.
type sealedTape struct {
	dir   string
	key   string
	heads [][]byte
}

// recordTape records a tape of so many segments, the last of them not sealed.
func recordTape(t testing.TB, dir string, segments int) *sealedTape {
	t.Helper()
	s := &sealedTape{dir: dir}
	s.record(t, segments, 100*second, nil)
	return s
}

// record adds segments to the tape.
func (s *sealedTape) record(t testing.TB, segments int, boot uint64, change func(*WriterOptions, *LogKeeper)) {
	t.Helper()
	o, k := loggedOptions(s.dir, boot)
	k.o.Begun = func(key string) { s.key = key }
	k.o.Checkpoint = func(head []byte) { s.heads = append(s.heads, head) }
	if change != nil {
		change(&o, k)
	}
	w := mustOpenWriter(t, s.dir, o)
	l := newLoad(20, 50)
	l.boot = boot
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	w.awaited.Add(1) // so that a busy host seals in time
	conns := make([]Connection, 200)
	stored, coalesced, lost := uint64(0), uint64(0), uint64(0)
	for n := range segments {
		for range 5 {
			w.seg.blocks.size = 300
			l.fill(conns)
			conns[7].Count, conns[7].LastBootTime = 3, conns[7].BootTime+1
			b := l.batch(conns)
			b.Gaps = []Gap{{From: l.boot, To: l.boot + 1, Cause: "ring full", Lost: 2}}
			stored, coalesced, lost = stored+200, coalesced+2, lost+2
			b.Counters = segment.Counters{"seen": stored + coalesced + lost, "stored": stored, "coalesced": coalesced, "lost": lost}
			mustAppend(t, w, b)
			k.checkpoint()
		}
		if n < segments-1 {
			if err := w.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// On a slow disk closing ends before all is sealed; where a test keeps segments from
	// being sealed, this is in vain.
	for start := time.Now(); w.waiting() && time.Since(start) < 10*time.Second; time.Sleep(2 * time.Millisecond) {
	}
	if err := w.Close(Gap{From: l.boot + second}, nil); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

func (s *sealedTape) verify(t testing.TB, o proof.Options) *proof.Verification {
	t.Helper()
	v, err := proof.Verify(context.Background(), s.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *sealedTape) lastHead() []byte { return s.heads[len(s.heads)-1] }

// problems returns all problems as one text.
func problems(v *proof.Verification) string {
	var b strings.Builder
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "%d %s: %s\n", p.Segment, p.File, p.What)
	}
	return b.String()
}

func TestVerifyTape(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	var done, total int64
	v := s.verify(t, proof.Options{Key: s.key, Head: s.lastHead(), Progress: func(d, of int64) { done, total = d, of }})
	if len(v.Problems) > 0 || len(v.Notes) > 0 {
		t.Errorf("problems: %s%q", problems(v), v.Notes)
	}
	if done != total || total == 0 {
		t.Errorf("looked at %d of %d bytes", done, total)
	}
	if !v.KeyMatched || !v.HeadMatched || v.Proven != v.Leaves || v.Leaves < 20 || !v.Stopped || v.TapeID == "" {
		t.Errorf("%+v", v)
	}
	for i, seg := range v.Segments {
		state := "sealed"
		if i == 2 {
			state = segment.StateStopped
		}
		if seg.State != state || !seg.OK || seg.Rows != 1000 || (seg.SHA256 == "") != (i == 2) || seg.From.IsZero() {
			t.Errorf("segment %d: %+v", i+1, seg)
		}
	}
	// Another run on it, and a boot.
	s.record(t, 2, 2000*second, nil)
	s.record(t, 1, 50*second, func(o *WriterOptions, k *LogKeeper) {
		o.BootID = strings.Replace(testBoot, "1", "2", 1)
		k.o.BootID = o.BootID
		o.Now.Real += int64(time.Hour)
	})
	v = s.verify(t, proof.Options{Key: s.key, Head: s.lastHead()})
	if len(v.Problems) > 0 || len(v.Segments) != 4 {
		t.Errorf("problems: %s%+v", problems(v), v.Segments)
	}
}

func TestVerifyNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := proof.Verify(context.Background(), dir, proof.Options{}); err == nil || !strings.Contains(err.Error(), "no tape here") {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := proof.Verify(context.Background(), filepath.Join(dir, "x"), proof.Options{}); err == nil {
		t.Error("no directory")
	}
	file := filepath.Join(dir, "00000001.db")
	if err := os.WriteFile(file, make([]byte, 5000), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := proof.Verify(context.Background(), file, proof.Options{}); err == nil || failure.HintOf(err) == "" {
		t.Errorf("a file: %v", err)
	}
	v, err := proof.Verify(context.Background(), dir, proof.Options{})
	if err != nil || !strings.Contains(problems(v), "there is no log") || !strings.Contains(problems(v), "1 00000001.db: it cannot be read") {
		t.Errorf("%v, %s", err, problems(v))
	}
}
