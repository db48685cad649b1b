package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// honest is a tape to which happens what happens to tapes, and no more.
type honest struct {
	*rand.Rand
	dir   string
	boot  int // restarts of the host so far
	now   uint64
	key   string
	head  []byte
	alone bool // no file system of its own
}

// Accidents and daily work by chance, one after the other on one tape, 78 of them and
// 500 when CONNTAPE_TEST_LONG is set: verify never raises an alarm, with the first key
// and the newest head that was given away, and every segment can be read. Power losses
// are in TestPowerLoss, which needs strace, and full disks with others who fill them in TestStorm.
func TestHonestEvents(t *testing.T) {
	h := &honest{Rand: rand.New(rand.NewPCG(13, 78)), now: 100 * second}
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=160m"); err != nil {
		h.alone = true
		t.Logf("a full disk is not tried: %v", err)
	} else {
		t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	}
	h.dir = filepath.Join(mount, "tape")
	events := []struct {
		name string
		do   func(testing.TB)
	}{
		{"kill -9", h.kill}, {"kill -9 of a run that rotates, holds and expires", h.killTurns}, {"a run that stops", h.turns},
		{"a restart of the host", func(t testing.TB) { h.boot++; h.kill(t) }}, {"a full disk", h.full}, {"a clock that is set", h.clock},
		{"a host that slept", h.sleep}, {"a rotation", h.rotate}, {"a hold", h.hold}, {"a release", h.release}, {"a tape that is verified while it is recorded", h.watched},
		{"a snapshot of the disk, in the middle of writing", h.snapshot}, {"a tape that is moved", h.move}, {"a manifest that is lost or torn", h.manifest}, {"a second recorder", h.second},
	}
	h.turns(t)
	for round := range rounds(15, 30, 500) {
		e := events[h.IntN(len(events))]
		if round < len(events) {
			e = events[round]
		}
		e.do(t)
		if t.Failed() {
			t.Fatalf("event %d: %s", round, e.name)
		}
		h.check(t, fmt.Sprintf("event %d: %s", round, e.name), h.dir)
	}
}

// check has the tape verified and read.
func (h *honest) check(t testing.TB, what, dir string) {
	t.Helper()
	v, err := proof.Verify(context.Background(), dir, proof.Options{Key: h.key, Head: h.head})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if len(v.Problems) > 0 || !v.KeyMatched || h.head != nil && !v.HeadMatched || v.Proven != v.Leaves {
		t.Fatalf("%s: %skey %t, head %t, %d of %d leaves proven", what, problems(v), v.KeyMatched, v.HeadMatched, v.Proven, v.Leaves)
	}
	tape, err := OpenTape(dir)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer tape.Close()
	if c, err := tape.Coverage(); err != nil || len(c.LeftOut) > 0 {
		t.Fatalf("%s: %+v, %v", what, c.LeftOut, err)
	}
}

// child runs a part of the tests, kills it when kill is done, and keeps what it gave away.
func (h *honest) child(t testing.TB, kill time.Duration, during func(), part string, args ...string) {
	t.Helper()
	cmd := childCommand(t, part, append([]string{h.dir}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if kill > 0 {
		defer time.AfterFunc(kill, func() { cmd.Process.Kill() }).Stop()
	}
	if during != nil {
		during()
	}
	var said bytes.Buffer
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		if key, ok := strings.CutPrefix(line, "key "); ok && h.key == "" {
			h.key = strings.TrimSpace(key)
		}
		said.WriteString(line)
	}
	cmd.Wait() // killed, or on a full disk
	if head, err := proof.FindCheckpoint(&said); err == nil {
		h.keep(head)
	}
}

// keep keeps a head that was given away.
func (h *honest) keep(head []byte) {
	is, _, err := tapelog.ParseHead(head)
	if err != nil {
		return
	}
	if was, _, err := tapelog.ParseHead(h.head); err != nil || was.Size < is.Size {
		h.head = head
	}
}

func (h *honest) short() time.Duration { return time.Duration(50+h.IntN(250)) * time.Millisecond }

func (h *honest) kill(t testing.TB) { h.child(t, h.short(), nil, "logged", bootNumber(h.boot)) }

func (h *honest) killTurns(t testing.TB) {
	h.child(t, h.short(), nil, "power", bootNumber(h.boot), "1000")
}

func (h *honest) turns(t testing.TB) {
	h.child(t, 0, nil, "power", bootNumber(h.boot), strconv.Itoa(9+h.IntN(12)))
}

// full is a disk that somebody else fills.
func (h *honest) full(t testing.TB) {
	if h.alone {
		return
	}
	filler := filepath.Join(filepath.Dir(h.dir), "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	f.Close()
	if err := os.Truncate(filler, max(0, fileSize(t, filler)-int64(h.IntN(2<<20)))); err != nil {
		t.Fatal(err)
	}
	h.child(t, 2*h.short(), nil, "power", bootNumber(h.boot), "1000")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	h.turns(t) // the next recorder writes what this one could not
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// record records in this process, in a boot of its own, with what change makes of it.
func (h *honest) record(t testing.TB, during func(w *Writer, k *LogKeeper), change func(*WriterOptions, *tapelog.Clocks)) {
	t.Helper()
	h.boot++
	o, k := loggedOptions(h.dir, 100*second)
	o.BootID, o.Now = bootNumber(h.boot), at(100*second)
	step := tapelog.Clocks{}
	if change != nil {
		change(&o, &step)
	}
	k.o.BootID = o.BootID
	k.o.Checkpoint = h.keep
	clocks := k.clocks
	asked := 0
	k.clocks = func() (tapelog.Clocks, error) {
		c, err := clocks()
		if asked++; asked > 4 { // in the middle
			c.Boot, c.Real, c.Suspended = c.Boot+step.Boot, c.Real+step.Real, c.Suspended+step.Suspended
		}
		return c, err
	}
	w := mustOpenWriter(t, h.dir, o)
	l := newLoad(5, 20)
	l.boot = 100 * second
	w.now = func(string) (Anchor, error) {
		a := at(l.boot)
		a.Real += o.Now.Real - at(100*second).Real
		return a, nil
	}
	conns := make([]Connection, 50)
	for n := range 6 {
		l.fill(conns)
		b := l.batch(conns)
		b.Counters = segment.Counters{"seen": l.n, "stored": l.n}
		if n == 3 && step.Real != 0 {
			b.Anchors = []Anchor{{Boot: l.boot, Real: at(l.boot).Real + step.Real, Kind: "step"}}
		}
		mustAppend(t, w, b)
		k.checkpoint()
	}
	if during != nil {
		during(w, k)
	}
	if err := w.Close(Gap{From: l.boot + second}, nil); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

func (h *honest) clock(t testing.TB) {
	step := int64(time.Duration(h.IntN(20*365*24)-10*365*24) * time.Hour)
	h.record(t, nil, func(o *WriterOptions, c *tapelog.Clocks) { o.Now.Real, c.Real = o.Now.Real-step, step })
}

func (h *honest) sleep(t testing.TB) {
	slept := uint64(time.Duration(1+h.IntN(100)) * time.Hour)
	h.record(t, nil, func(_ *WriterOptions, c *tapelog.Clocks) { c.Boot, c.Suspended = slept, slept })
}

func (h *honest) rotate(t testing.TB) {
	h.record(t, func(w *Writer, _ *LogKeeper) {
		if err := w.Rotate(); err != nil {
			t.Error(err)
		}
	}, nil)
}

func (h *honest) hold(t testing.TB) {
	if len(h.holds(t)) > 1 { // what is held takes room
		h.release(t)
	}
	h.record(t, func(w *Writer, _ *LogKeeper) {
		if a := w.do(Request{Do: DoHold, Reason: "case", Since: time.Unix(0, 1)}); a.Error != "" && !strings.Contains(a.Error, "hold") {
			t.Error(a.Error)
		}
	}, nil)
}

func (h *honest) release(t testing.TB) {
	if len(h.holds(t)) == 0 {
		h.hold(t)
	}
	h.record(t, func(w *Writer, _ *LogKeeper) {
		for _, id := range h.holds(t) {
			if a := w.do(Request{Do: DoRelease, Hold: id, Reason: "over"}); a.Error != "" {
				t.Error(a.Error)
			}
		}
	}, nil)
}

// holds are those of the tape, those of runs that were killed among them.
func (h *honest) holds(t testing.TB) (ids []string) {
	holds, err := tapedir.Holds(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range holds {
		ids = append(ids, one.ID)
	}
	return ids
}

// watched is verified without a head: one that is given away meanwhile would be newer.
func (h *honest) watched(t testing.TB) {
	h.child(t, time.Second, func() {
		for range 3 {
			h.check(t, "while it is recorded", h.dir)
		}
	}, "logged", bootNumber(h.boot))
}

// snapshot is a copy of everything at one instant, as a file system makes one.
func (h *honest) snapshot(t testing.TB) {
	copied := filepath.Join(t.TempDir(), "tape")
	cmd := childCommand(t, "logged", h.dir, bootNumber(h.boot))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(h.short())
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // for its threads
	err := os.CopyFS(copied, os.DirFS(h.dir))
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	h.check(t, "a snapshot", copied)
}

func (h *honest) move(t testing.TB) {
	moved := h.dir + "-moved"
	if err := os.Rename(h.dir, moved); err != nil {
		t.Fatal(err)
	}
	h.check(t, "moved", moved)
	if err := os.Rename(moved, h.dir); err != nil {
		t.Fatal(err)
	}
}

func (h *honest) manifest(t testing.TB) {
	path := filepath.Join(h.dir, segment.ManifestName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // it was lost before, and no segment was sealed since
	}
	if err == nil && h.IntN(2) == 0 {
		err = os.Truncate(path, int64(h.IntN(int(info.Size())+1)))
	} else if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (h *honest) second(t testing.TB) {
	h.record(t, func(*Writer, *LogKeeper) {
		o, k := loggedOptions(h.dir, 100*second)
		if w, err := OpenWriter(h.dir, o); err == nil {
			t.Error("two recorders")
			w.Close(Gap{}, nil)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}, nil)
}
