package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// Everything at once: floods, rotations, holds that come and go, restarts of the
// recorder and of the host, read locks on the newest segment while it starts, and
// others who fill the disk to the last block. Then all is there that the budget has
// room for, each connection once, and the tape verifies. 10 minutes with
// CONNTAPE_TEST_LONG.
func TestStorm(t *testing.T) {
	mount := mountImage(t, 400<<20, "mkfs.ext4", "-q")
	s := &storm{sealedTape: sealedTape{dir: filepath.Join(mount, "tape")}, load: newLoad(50, 500), limits: retain.Limits{
		MaxBytes: 64 << 20, MaxHeldBytes: 4 << 20, KeepFreePercent: 5, Reserve: true}}
	most := int64(0)
	watched := watchEvery(10*time.Millisecond, func() { most = max(most, taken(s.dir)) })
	deadline := time.Now().Add(time.Duration(rounds(6, 15, 600)) * time.Second)
	for i := 0; time.Now().Before(deadline); i++ {
		if i == 2 {
			defer fillers(t, mount, 2)()
		}
		s.run(t, min(time.Until(deadline), time.Duration(500+rand.IntN(2500))*time.Millisecond), i)
	}
	s.run(t, time.Second, -1) // with nobody who disturbs
	watched()
	t.Logf("%d connections by %d recorders, %d rotations, %d holds; %.1f%% at the most, %.1f%% history", s.load.n, s.runs, s.rotations, s.holds,
		100*float64(most)/float64(s.limits.MaxBytes), 100*float64(history(t, s.dir))/float64(s.limits.MaxBytes))
	s.check(t)
	if most > s.limits.MaxBytes {
		t.Errorf("the tape took %d bytes", most)
	}
}

type storm struct {
	sealedTape
	limits                 retain.Limits
	load                   *load
	heard                  heard
	runs, rotations, holds int
}

// run records for a while while requests come, and stops. Boot is which start of the
// host it is.
func (s *storm) run(t *testing.T, long time.Duration, boot int) {
	unlock := func() {}
	if s.runs > 0 && boot >= 0 && rand.IntN(2) == 0 {
		unlock = lockNewest(t, s.dir)
	}
	s.runs++
	o, k := loggedOptions(s.dir, s.load.boot)
	k.o.MaxBytes = s.limits.MaxBytes
	k.o.Begun = func(key string) { s.key = key }
	if boot >= 0 {
		o.BootID = fmt.Sprintf("00000000-0000-4000-8000-%012d", boot/2)
		k.o.BootID = o.BootID
	}
	o.Limits = s.limits
	log := o.Events
	o.Events = func(e Event) { s.heard.listen(e); log(e) }
	w := mustOpenWriter(t, s.dir, o)
	var mu sync.Mutex // of the clock
	w.now = func(string) (Anchor, error) {
		mu.Lock()
		defer mu.Unlock()
		return at(s.load.boot), nil
	}
	stop := s.disturb(t, w, unlock)
	before := s.load.n
	conns := make([]Connection, 20_000)
	for end := time.Now().Add(long); time.Now().Before(end); {
		n := 1 + rand.IntN(len(conns))
		mu.Lock()
		s.load.fill(conns[:n])
		b := s.load.batch(conns[:n])
		mu.Unlock()
		b.Counters = segment.Counters{"seen": s.load.n - before, "stored": s.load.n - before}
		mustAppend(t, w, b)
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	}
	stop()
	if boot < 0 {
		waitSealed(t, w)
	}
	if err := w.Close(Gap{From: s.load.boot + 1}, nil); err != nil {
		t.Fatal(err)
	}
	s.load.boot += second
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

// disturb asks for all that can be asked for, until the function that it returns is
// called.
func (s *storm) disturb(t *testing.T, w *Writer, unlock func()) (stop func()) {
	end := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		defer unlock()
		var held []string
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Duration(rand.IntN(200)) * time.Millisecond):
			}
			switch n := rand.IntN(10); {
			case n < 7:
				w.do(Request{Do: DoRotate})
				s.rotations++
			case n < 9:
				now, _ := w.now("")
				// It may be refused for its size.
				if a := w.do(Request{Do: DoHold, Reason: "storm", Since: time.Unix(0, now.Real).Add(-20 * time.Millisecond)}); a.Error == "" {
					held = append(held, a.Hold.ID)
					s.holds++
				}
			case len(held) > 0:
				if a := w.do(Request{Do: DoRelease, Hold: held[0], Reason: "over"}); a.Error != "" {
					t.Errorf("release: %s", a.Error)
				}
				held = held[1:]
			}
			unlock()
		}
	})
	return func() { close(end); asking.Wait() }
}

// lockNewest locks the newest segment as a reader does, until the function that it
// returns is called.
func lockNewest(t *testing.T, dir string) (unlock func()) {
	t.Helper()
	_, newest, err := tapedir.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, tapedir.SegmentName(newest)))
	if err != nil {
		t.Fatal(err)
	}
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: tapedir.LockBytesStart, Len: tapedir.LockBytesLen}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	return func() { f.Close() }
}

// check looks at what the storm left.
func (s *storm) check(t *testing.T) {
	t.Helper()
	for _, line := range s.heard.lines {
		if strings.HasPrefix(line, "SegmentSetAside") || strings.HasPrefix(line, "SegmentExpired") && !strings.HasSuffix(line, ": size") {
			t.Error(line)
		}
	}
	v := s.verify(t, proof.Options{Key: s.key})
	if len(v.Problems) > 0 {
		t.Errorf("verify: %s", problems(v))
	}
	// Cookies are numbered: what is there has no hole, ends with the last one, and
	// each is there once.
	var n, first, last int64 = 0, 1 << 62, 0
	numbers, _, err := tapedir.List(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range numbers {
		err := segment.Peek(t.Context(), filepath.Join(s.dir, tapedir.SegmentName(number)), func(conn *sqlite.Conn) error {
			return segment.Exec(conn, func(q *sqlite.Stmt) error {
				if q.ColumnInt64(0) > 0 {
					n, first, last = n+q.ColumnInt64(0), min(first, q.ColumnInt64(1)), max(last, q.ColumnInt64(2))
				}
				return nil
			}, `SELECT count(DISTINCT cookie), min(cookie), max(cookie) FROM connection`)
		})
		if err != nil {
			t.Fatalf("segment %d: %v", number, err)
		}
	}
	if last != 100_000+int64(s.load.n) || n != last-first+1 {
		t.Errorf("%d connections from %d to %d, and %d were recorded", n, first, last, s.load.n)
	}
	removed := first > 100_001
	if kept := history(t, s.dir); removed && kept < s.limits.MaxBytes/100*80 {
		t.Errorf("%d bytes of history are left of %d", kept, s.limits.MaxBytes)
	}
}
