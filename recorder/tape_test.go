package recorder

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// slow is a tape whose disk takes its time while gate is open for nobody.
type slow struct {
	*store.Writer
	gate chan struct{}
}

func (s *slow) Append(b store.Batch) error {
	<-s.gate
	return s.Writer.Append(b)
}

// The whole way from records to a tape that is read back: a flood while the disk stalls, an attempt that takes long, one
// that never returns, and losses in the ring.
func TestTapeHoldsWhatTheCountersSay(t *testing.T) {
	dir := t.TempDir()
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "test", Backend: "cgroup", BootID: "b", Now: takeAnchor(anchorStart)})
	if err != nil {
		t.Fatal(err)
	}
	src, out := newScript(), &slow{w, make(chan struct{})}
	c := quick()
	c.buffer = MinBuffer
	stop := start(t, src, out, c, Options{})
	now := bootNow()
	k := key(7, now, 2)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/flood", "flood\x00--all\x00"))
	const n = 20_000
	for i := range uint64(n) {
		src.connect(connectBy(k, now+i))
	}
	takes, hangs := connectBy(k, now+n), connectBy(k, now+n+1)
	takes.Tid, hangs.Tid = 8, 9
	takes.Remote, hangs.Remote = ipv4(10, 0, 0, 2, 81), ipv4(10, 0, 0, 3, 82)
	src.begin(takes)
	src.begin(hangs)
	src.lose(11)
	time.Sleep(100 * time.Millisecond)
	takes.Errno = int32(unix.ETIMEDOUT)
	src.end(takes)
	waitFor(t, "the ring to drain", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
	close(out.gate)
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	number := func(sql string) (v int64) {
		t.Helper()
		err := sqlitex.ExecuteTransient(tape.Conn(), sql, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			v = s.ColumnInt64(0)
			return nil
		}})
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return v
	}
	for sql, want := range map[string]int64{
		`SELECT seen FROM segments`:                                           n + 2 + 11,
		`SELECT seen - stored - coalesced - lost FROM segments`:               0,
		`SELECT lost FROM segments`:                                           11,
		`SELECT sum(lost) FROM gaps`:                                          11,
		`SELECT sum(count) FROM connections`:                                  n + 2,
		`SELECT stored - (SELECT count(*) FROM connections) FROM segments`:    0,
		`SELECT coalesced > 0 FROM segments`:                                  1,
		`SELECT count(*) FROM connections WHERE cmdline <> 'flood --all'`:     0,
		`SELECT errno FROM connections WHERE remote_port = 81`:                int64(unix.ETIMEDOUT),
		`SELECT outcome = 'unknown' FROM connections WHERE remote_port = 82`:  1,
		`SELECT count(*) FROM connections WHERE remote_port IN (81, 82)`:      2,
		`SELECT count(*) FROM gaps WHERE cause = 'ring full'`:                 1,
		`SELECT count(*) FROM gaps WHERE cause = 'stopped' AND to_ns IS NULL`: 1,
	} {
		if got := number(sql); got != want {
			t.Errorf("%s: %d, want %d", sql, got, want)
		}
	}
}

func TestClockIsWatchedUntilTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var a anchors
	done := make(chan error, 1)
	go func() { done <- watchClock(ctx, &a) }()
	time.Sleep(20 * time.Millisecond)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("does not end")
	}
	if a.pending() {
		t.Errorf("anchors %+v without a step", a.take())
	}
}

func TestAnchorReadsBothClocksAtOnce(t *testing.T) {
	before, real := bootNow(), time.Now().UnixNano()
	a := takeAnchor(anchorStart)
	after, realAfter := bootNow(), time.Now().UnixNano()
	if a.Boot < before || a.Boot > after || a.Real < real || a.Real > realAfter || a.Kind != anchorStart {
		t.Errorf("%+v is not between %d, %d and %d, %d", a, before, real, after, realAfter)
	}
}
