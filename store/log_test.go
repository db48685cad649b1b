package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// loggedOptions are options whose events go to a log.
func loggedOptions(dir string, boot uint64) (WriterOptions, *LogKeeper) {
	o := options(boot)
	k := NewLogKeeper(dir, LogOptions{Host: o.Host, MachineID: o.MachineID, BootID: o.BootID,
		Version: o.Version, Backend: o.Backend, BlindSpots: o.BlindSpots})
	// No time of the log is within those of the tape, which are made up.
	k.clocks = func() (tapelog.Clocks, error) {
		c, err := tapelog.ReadClocks()
		c.Boot += 1 << 52
		return c, err
	}
	o.Events = k.Listen
	return o, k
}

// leaves returns the log of a tape as short lines.
func leaves(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	r, err := tapelog.Verify(filepath.Join(dir, tapedir.LogDir), tapelog.VerifyOptions{Leaf: func(l tapelog.Leaf) error {
		line := fmt.Sprintf("%s %d", l.Kind, l.Segment)
		if l.Batches > 0 {
			line += fmt.Sprintf(" at %d", l.Batches)
		}
		if l.Seen > 0 {
			line += fmt.Sprintf(" seen %d", l.Seen)
		}
		if l.Cause != "" {
			line += ": " + l.Cause
		}
		lines = append(lines, line)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) > 0 {
		t.Errorf("findings: %+v", r.Findings)
	}
	return lines
}

func TestLogOfARun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o, k := loggedOptions(dir, 100*second)
	var key string
	var heads [][]byte
	k.o.Begun = func(s string) { key = s }
	k.o.Checkpoint = func(head []byte) { heads = append(heads, head) }
	w := mustOpenWriter(t, dir, o)
	x := newWorld()
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(101 * second)}, Now: 101 * second, Counters: segment.Counters{"seen": 1, "stored": 1}})
	mustAppend(t, w, Batch{Gaps: []Gap{{From: 101 * second, To: 102 * second, Cause: "ring full", Lost: 4}}, Now: 102 * second})
	mustAppend(t, w, Batch{Gaps: []Gap{{From: 101 * second, To: 103 * second, Cause: "ring full", Lost: 5}}, Now: 103 * second})
	k.checkpoint()
	mustAppend(t, w, Batch{Anchors: []Anchor{{Boot: 104 * second, Real: 1, Kind: "step"}}, Now: 104 * second})
	mustClose(t, w, 110*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"start 0", "segment 1: first", "gap 1: ring full", "checkpoint 1 at 3 seen 1", "checkpoint 1 at 4 seen 1", "gap 1: stopped", "stop 1 at 5 seen 1"}
	if got := leaves(t, dir); !slices.Equal(got, want) {
		t.Errorf("log:\n%q\nwant:\n%q", got, want)
	}
	r, err := tapelog.Verify(filepath.Join(dir, tapedir.LogDir), tapelog.VerifyOptions{Key: key, Head: heads[len(heads)-1]})
	if err != nil || !r.KeyMatched || !r.HeadMatched || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	o, k = loggedOptions(dir, 200*second)
	mustClose(t, mustOpenWriter(t, dir, o), 210*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := leaves(t, dir)[len(want):], []string{"start 0", "gap 1: stopped", "stop 1 at 6"}; !slices.Equal(got, want) {
		t.Errorf("second run: %q, want %q", got, want)
	}
}

// A log that cannot be written: recording goes on, what happened is written when
// it can be, and Close says what never was.
func TestLogThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o, k := loggedOptions(dir, 100*second)
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	obstacle := filepath.Join(dir, tapedir.LogDir)
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := mustOpenWriter(t, dir, o)
	mustAppend(t, w, Batch{Now: 101 * second})
	k.checkpoint()
	k.Listen(SegmentExpired{Segment: 7, Why: tapelog.ExpiredAge})
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	for range 2 * mostQueued { // checkpoints take no more room than one
		k.mu.Lock()
		k.putCheckpoint()
		k.mu.Unlock()
	}
	mustClose(t, w, 110*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"start 0", "segment 1: first", "checkpoint 1 at 1", "expiry 7: age", "checkpoint 1 at 1", "gap 1: stopped", "stop 1 at 2"}
	if got := leaves(t, dir); !slices.Equal(got, want) {
		t.Errorf("log:\n%q\nwant:\n%q", got, want)
	}

	k = NewLogKeeper(filepath.Join(t.TempDir(), "nowhere"), LogOptions{})
	for n := range mostQueued + 10 {
		k.Listen(SegmentSetAside{Segment: n + 1})
	}
	var e *failure.Error
	if err := k.Close(); !errors.As(err, &e) || !strings.Contains(err.Error(), fmt.Sprint(mostQueued+11)) {
		t.Errorf("closed with %v", err)
	}
}

// The background writes checkpoints whether anything happens or not.
func TestLogTicks(t *testing.T) {
	if checkpointPause != 10*time.Second {
		t.Errorf("a checkpoint every %v; the documents promise 10 s", checkpointPause)
	}
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(100 * second)
	k := newLogKeeper(dir, LogOptions{BootID: o.BootID}, 20*time.Millisecond)
	o.Events = k.Listen
	w := mustOpenWriter(t, dir, o)
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err := proof.ReadCheckpoint(dir); err != nil {
			continue // not begun yet
		}
		n := 0
		for _, line := range leaves(t, dir) {
			if line == "checkpoint 1" {
				n++
			}
		}
		if n >= 3 {
			break
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("%d checkpoints", n)
		}
	}
	mustClose(t, w, 110*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

// Somebody who takes no checkpoint, such as a system log that hangs, holds up
// neither the log nor the tape. When they are taken again, it is the newest.
func TestLogTellerHangs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o, k := loggedOptions(dir, 100*second)
	release := make(chan struct{})
	var heads [][]byte
	k.o.Checkpoint = func(head []byte) {
		<-release
		heads = append(heads, head)
	}
	w := mustOpenWriter(t, dir, o)
	for range 10 {
		k.checkpoint()
	}
	k.Listen(SegmentExpired{Segment: 7, Why: tapelog.ExpiredAge})
	last, err := proof.ReadCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	close(release)
	mustClose(t, w, 110*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if len(heads) == 0 || len(heads) > 12 {
		t.Errorf("%d checkpoints", len(heads))
	}
	r, err := tapelog.Verify(filepath.Join(dir, tapedir.LogDir), tapelog.VerifyOptions{Head: heads[len(heads)-1]})
	if err != nil || r.HeadSize != r.Leaves {
		t.Errorf("the last that was told is of %d leaves of %d, %v", r.HeadSize, r.Leaves, err)
	}
	if before, _, err := tapelog.ParseHead(last); err != nil || before.Size > r.HeadSize {
		t.Errorf("%v, %v", before, err)
	}
}
