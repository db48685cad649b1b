package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// start runs a recorder over a script until the test stops it.
func start(t *testing.T, src *script, out sink, c config, o Options) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	passwd := filepath.Join(dir, "passwd")
	if err := os.WriteFile(passwd, []byte("root:x:0:0::/:\nalice:x:1000:1000::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newRecorder(src, out, c, hostFiles{proc: procOf(t), passwd: passwd})
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, o) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			t.Fatal("the recorder does not stop")
			return nil
		}
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// procOf returns the /proc of a test, empty until the test fills it.
func procOf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "conntape-proc-"+strings.ReplaceAll(t.Name(), "/", "_"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// accounted fails unless every attempt is in exactly one place, in the counters and in the rows.
func accounted(t *testing.T, m *memory) {
	t.Helper()
	c := m.counters
	if c["seen"] != c["stored"]+c["coalesced"]+c["excluded"]+c["lost"] {
		t.Errorf("seen %d ≠ stored %d + coalesced %d + excluded %d + lost %d", c["seen"], c["stored"], c["coalesced"], c["excluded"], c["lost"])
	}
	if c["in_flight"] != 0 {
		t.Errorf("%d attempts are left in flight", c["in_flight"])
	}
	var events uint64
	for _, row := range m.rows {
		events += uint64(max(row.Count, 1))
	}
	if uint64(len(m.rows)) != c["stored"] || events != c["stored"]+c["coalesced"] {
		t.Errorf("%d rows of %d attempts, but stored %d and coalesced %d", len(m.rows), events, c["stored"], c["coalesced"])
	}
	var lost uint64
	for _, g := range m.gaps {
		lost += g.Lost
		if g.From >= g.To {
			t.Errorf("gap from %d to %d", g.From, g.To)
		}
	}
	if lost != c["lost"]+c["excluded"] {
		t.Errorf("gaps tell of %d lost or excluded attempts, counters of %d", lost, c["lost"]+c["excluded"])
	}
	if m.stop == nil || m.stop.Cause != segment.CauseStopped || m.stop.To != 0 {
		t.Errorf("stop gap %+v", m.stop)
	}
}

func lineage(p *store.Process) string {
	var names []string
	for ; p != nil; p = p.Parent {
		names = append(names, fmt.Sprintf("%s#%d", filepath.Base(p.Exe), p.Key.Tgid))
	}
	return strings.Join(names, " < ")
}

func TestUsersRenamedWhileRecording(t *testing.T) {
	src, out := newScript(), newMemory()
	dir := t.TempDir()
	passwd := filepath.Join(dir, "passwd")
	if err := os.WriteFile(passwd, []byte("alice:x:1000:1::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := newRecorder(src, out, quick(), hostFiles{proc: procOf(t), passwd: passwd})
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, Options{}) }()
	c := connectBy(key(1, 1, 1), bootNow())
	c.UID = 1000
	src.connect(c)
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := os.WriteFile(passwd, []byte("mallory:x:1000:1::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	src.connect(c)
	waitFor(t, "another row", func() bool { return out.count() == 2 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if a, b := out.rows[0].Task.User, out.rows[1].Task.User; a != "alice" || b != "mallory" {
		t.Errorf("users %q, %q", a, b)
	}
}

func TestIdleWakesSeldomAndBeats(t *testing.T) {
	src, out := newScript(), newMemory()
	c := configOf(Options{})
	c.heartbeat = 500 * time.Millisecond
	stop := start(t, src, out, c, Options{})
	time.Sleep(2 * time.Second)
	src.mu.Lock()
	reads := src.reads
	src.mu.Unlock()
	if reads > 12 {
		t.Errorf("%d looks at an empty ring in 2 s", reads)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(out.batches); n < 3 || n > 6 {
		t.Errorf("%d heartbeats in 2 s", n)
	}
	for _, b := range out.batches[1:] {
		if len(b.Connections) != 0 || b.Now == 0 || b.Counters == nil {
			t.Errorf("heartbeat %+v", b)
		}
	}
}

// TestSleeperIsWoken: an idle recorder looks at nothing until an attempt begins, its end or the end of all included, and
// what it missed meanwhile it knows before it says who that was.
func TestSleeperIsWoken(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.sleepAfter = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	passwd := filepath.Join(t.TempDir(), "passwd")
	r := newRecorder(src, out, c, hostFiles{proc: procOf(t), passwd: passwd})
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, Options{}) }()
	asleep := func() bool {
		reads := func() int {
			src.mu.Lock()
			defer src.mu.Unlock()
			return src.reads
		}
		before := reads()
		time.Sleep(10 * c.tick)
		return reads() == before
	}

	waitFor(t, "sleep", asleep)
	hanging := connectBy(key(1, 1, 1), bootNow())
	src.begin(hanging)
	waitFor(t, "the row of an attempt that hangs", func() bool { return out.count() == 1 })
	src.end(hanging)
	waitFor(t, "sleep after it", asleep)

	if err := os.WriteFile(passwd, []byte("mallory:x:1001:1::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	next := connectBy(key(2, 2, 1), bootNow())
	next.UID = 1001
	src.connect(next)
	waitFor(t, "another row", func() bool { return out.count() == 2 })
	waitFor(t, "sleep at the end", asleep)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it sleeps on when told to stop")
	}
	if user := out.rows[1].Task.User; user != "mallory" {
		t.Errorf("the user who is new is called %q", user)
	}
	accounted(t, out)
}

func TestStatusOnALog(t *testing.T) {
	src, out := newScript(), newMemory()
	var text bytes.Buffer
	stop := start(t, src, out, quick(), Options{Dir: "/var/lib/tape", Status: &text})
	src.connect(connectBy(key(1, 1, 1), bootNow()))
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	want := `conntape: recording to /var/lib/tape with the cgroup backend; stop with Ctrl-C
conntape: not seen: inbound connections, raw packets, UDP sent without connect, names that are looked up, names that clients send; and 1 more of this backend (conntape doctor lists them)
conntape: stopped: 1 connects seen, 1 rows, 0 counted together, 0 lost
`
	if text.String() != want {
		t.Errorf("said\n%swant\n%s", text.String(), want)
	}
}

func TestSourceThatFailsEndsTheRunWithAllThatWasRead(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	src.connect(connectBy(key(1, 1, 1), bootNow()))
	src.mu.Lock()
	src.failure = io.ErrUnexpectedEOF
	src.mu.Unlock()
	src.wake()
	waitFor(t, "the end", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return out.stop != nil })
	if err := stop(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	if len(out.rows) != 1 || !strings.Contains(out.stop.Detail, io.ErrUnexpectedEOF.Error()) {
		t.Errorf("rows %v, stop %+v", out.rows, out.stop)
	}
}
