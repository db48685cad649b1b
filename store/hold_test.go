package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// wallAt is the wall clock of the tests at a boot time.
func wallAt(boot uint64) time.Time { return time.Unix(0, epoch2026+int64(boot)).UTC() }

// recordHours records one connection an hour, with a segment for each two, and
// leaves the tape recorded. Hours are numbered from 1.
func recordHours(t *testing.T, dir string, o WriterOptions, hours uint64) *Writer {
	t.Helper()
	w := mustOpenWriter(t, dir, o)
	x := newWorld()
	for i := uint64(1); i <= hours; i++ {
		now := i * 3600 * second
		w.now = func(string) (Anchor, error) { return at(now), nil }
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(now)}, Now: now, Counters: segment.Counters{"seen": i, "stored": i}})
		if i%2 == 0 && i < hours {
			if err := w.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
	}
	waitSealed(t, w)
	return w
}

// A hold keeps the segments of its range when retention removes them, can be
// queried, and is gone when it is released.
func TestHold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	h := &heard{}
	var events []Event
	o := options(3600 * second)
	o.Events = func(e Event) { events = append(events, e); h.listen(e) }
	w := recordHours(t, dir, o, 8)
	ask := func(r Request) (Answer, error) { return Ask(dir, r, WriterOptions{}, nil) }
	a, err := ask(Request{Do: DoHold, Since: wallAt(3 * 3600 * second), Until: wallAt(4 * 3600 * second), Reason: "case 7\n"})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Hold.Segments) != 1 || a.Hold.Segments[0].File != "00000002.db" || a.Hold.Reason != `case 7\x0a` {
		t.Fatalf("hold: %+v", a.Hold)
	}
	open, err := ask(Request{Do: DoHold, Since: wallAt(7 * 3600 * second), Reason: "from now on"})
	if err != nil {
		t.Fatal(err)
	}
	if got := open.Hold.Segments; len(got) != 1 || got[0].File != "00000004.db" {
		t.Errorf("the active segment is closed and held: %+v", got)
	}
	mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(9 * 3600 * second)}, Now: 9 * 3600 * second})
	if a, err := ask(Request{Do: DoRotate}); err != nil || a.File != "00000005.db" {
		t.Errorf("rotate: %+v, %v", a, err)
	}
	waitSealed(t, w)
	for w.expireOldest(tapelog.ExpiredSize) {
	}
	mustClose(t, w, 10*3600*second)

	for id, want := range map[string]string{a.Hold.ID: "2|2|2", open.Hold.ID: "2|4|5"} {
		tape := mustOpenTape(t, tapedir.HeldPath(dir, id))
		if id == open.Hold.ID {
			want = "3|4|5"
		}
		if got := one(t, tape.Conn(), "SELECT count(*), min(segment), max(segment) FROM connections"); got != want {
			t.Errorf("hold %s: %s, want %s", id, got, want)
		}
		for _, s := range tape.Segments() {
			if s.Snapshot || !tapedir.ClosedFile(s.Path) {
				t.Errorf("%s is not sealed", s.Path)
			}
		}
	}
	holds, err := tapedir.Holds(dir)
	if err != nil || len(holds) != 2 || holds[1].ID != open.Hold.ID || len(holds[1].Segments) != 2 {
		t.Errorf("holds: %+v, %v", holds, err)
	}
	for _, s := range holds[0].Segments {
		if got := hashOfFile(t, filepath.Join(tapedir.HeldPath(dir, holds[0].ID), s.File)); got != s.SHA256 {
			t.Errorf("%s is %s, and said to be %s", s.File, got, s.SHA256)
		}
	}
	// Nobody records now: the same requests work.
	if _, err := ask(Request{Do: DoRelease, Hold: "other"}); err == nil || failure.HintOf(err) == "" {
		t.Errorf("release of none: %v", err)
	}
	if _, err := ask(Request{Do: DoRelease, Hold: a.Hold.ID, Reason: "closed"}); err != nil {
		t.Error(err)
	}
	if tapedir.IsThere(tapedir.HeldPath(dir, a.Hold.ID)) {
		t.Error("the hold is still there")
	}
	held := 0
	for _, e := range events {
		if e, ok := e.(SegmentHeld); ok {
			held++
			if e.SHA256 == ([32]byte{}) {
				t.Errorf("no hash: %+v", e)
			}
		}
	}
	if held != 3 {
		t.Errorf("%d segments were told to be held", held)
	}
}

// What cannot be held is said.
// A recorder that starts tells the log of what is held and not in it, and of nothing twice: a tape with many held segments would
// start later each time.
func TestHoldsAreToldOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	run := func(n uint64, logged bool, during func(w *Writer)) {
		t.Helper()
		o, k := loggedOptions(dir, n*100*3600*second)
		if !logged {
			o.Events = nil
		}
		w := mustOpenWriter(t, dir, o)
		waitSealed(t, w)
		if during != nil {
			during(w)
		}
		mustClose(t, w, n*100*3600*second+second)
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(w *Writer) {
		if a := w.do(Request{Do: DoHold, Reason: "case 7", Since: time.Unix(0, 1)}); a.Error != "" {
			t.Fatal(a.Error)
		}
	}
	leaves := func() (n int) {
		t.Helper()
		if err := tapelog.Scan(filepath.Join(dir, tapedir.LogDir), tapelog.KindHold, func(tapelog.Leaf) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	recordTape(t, dir, 3)
	run(100, true, hold)
	told := leaves()
	if told < 3 {
		t.Fatalf("%d leaves", told)
	}
	for n := range uint64(3) {
		run(101+n, true, nil)
	}
	if n := leaves(); n != told {
		t.Errorf("%d leaves after three more recorders, %d before", n, told)
	}
	run(104, false, hold) // as if it had been killed before it told the log
	run(105, true, nil)
	if n := leaves(); n < 2*told {
		t.Errorf("%d leaves with a second hold, %d with the first", n, told)
	}
}

// A recorder that was killed when it had given a segment its second name, and before the hold had it, or while it copied one:
// the next one takes the segment into the hold. What it left is gone with the hold.
func TestHoldAfterKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	recordTape(t, dir, 4)
	var held tapedir.Hold
	run := func(n uint64, during func(w *Writer)) {
		t.Helper()
		o, k := loggedOptions(dir, n*100*3600*second)
		w := mustOpenWriter(t, dir, o)
		waitSealed(t, w)
		during(w)
		mustClose(t, w, n*100*3600*second+second)
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	run(100, func(w *Writer) {
		a := w.do(Request{Do: DoHold, Reason: "case 7", Since: time.Unix(0, 1)})
		if a.Error != "" || len(a.Hold.Segments) < 4 {
			t.Fatalf("%+v", a)
		}
		held = *a.Hold
	})
	at := tapedir.HeldPath(dir, held.ID)
	unlisted := held
	unlisted.Segments = held.Segments[:len(held.Segments)-2]
	last := filepath.Join(at, held.Segments[len(held.Segments)-1].File)
	if err := errors.Join(unlisted.Save(at), os.Remove(last), os.WriteFile(last, []byte("half a copy"), 0o600)); err != nil {
		t.Fatal(err)
	}
	run(101, func(w *Writer) {
		var holds []tapedir.Hold
		for start := time.Now(); time.Since(start) < 10*time.Second && (len(holds) != 1 || len(holds[0].Segments) < len(held.Segments)); time.Sleep(5 * time.Millisecond) {
			var err error
			if holds, err = tapedir.Holds(dir); err != nil {
				t.Fatal(err)
			}
		}
		if len(holds) != 1 || len(holds[0].Segments) < len(held.Segments) || len(holds[0].Missing) > 0 {
			t.Fatalf("%+v", holds)
		}
		first, err := os.Stat(filepath.Join(dir, filepath.Base(last)))
		if second, err2 := os.Stat(last); err != nil || err2 != nil || !os.SameFile(first, second) {
			t.Errorf("%v, %v", err, err2)
		}
		if err := errors.Join(unlisted.Save(at), os.WriteFile(filepath.Join(at, tapedir.HoldFile+".tmp"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if a := w.do(Request{Do: DoRelease, Hold: held.ID, Reason: "over"}); a.Error != "" || tapedir.IsThere(at) {
			t.Errorf("%+v", a)
		}
	})
}

func TestHoldRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(3600 * second)
	o.Limits.MaxHeldBytes = 1000
	w := recordHours(t, dir, o, 4)
	defer mustClose(t, w, 5*3600*second)
	for name, r := range map[string]Request{
		"needs a reason":     {Do: DoHold},
		"may be":             {Do: DoHold, Reason: "x", Until: wallAt(2 * 3600 * second)},
		"no segment":         {Do: DoHold, Reason: "x", Since: wallAt(0).Add(-time.Hour), Until: wallAt(0)},
		"there is no reques": {Do: "destroy"},
	} {
		_, err := Ask(dir, r, WriterOptions{}, nil)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if holds, err := tapedir.Holds(dir); err != nil || len(holds) != 0 {
		t.Errorf("holds: %+v, %v", holds, err)
	}
}

// A tape that nobody records is closed and sealed by a request to rotate it.
func TestRotateWithoutRecorder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(101 * second)}, Now: 101 * second})
	mustClose(t, w, 102*second)
	a, err := Ask(dir, Request{Do: DoRotate}, options(103*second), nil)
	if err != nil || a.File != "00000001.db" || !tapedir.ClosedFile(filepath.Join(dir, a.File)) {
		t.Errorf("%+v, %v, files %q", a, err, files(t, dir))
	}
	w = mustOpenWriter(t, dir, options(150*second))
	if n, _ := w.Segment(); n != 2 {
		t.Errorf("segment %d", n)
	}
	mustClose(t, w, 160*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT segment, to_time, cause FROM gaps")
	if want := []string{"1|2026-01-01T00:01:40.000000000Z|start", "1|2026-01-01T00:02:30.000000000Z|stopped", "2|NULL|stopped"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q", got)
	}
}

// Requests are for the owner alone, and none that waits stops a recorder.
func TestRequestsAreForTheOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(100*second))
	requests := filepath.Join(dir, requestDir)
	if info, err := os.Stat(requests); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("requests: %v, %v", info, err)
	}
	for name, text := range map[string]string{"a": "{", "b": `{"do":"rotate"}`, "c": strings.Repeat("x", tapedir.MostSmall+1)} {
		if err := tapedir.WriteWhole(filepath.Join(requests, name+requestSuffix), []byte(text), tapedir.BirthMode); err != nil {
			t.Fatal(err)
		}
	}
	for start := time.Now(); tapedir.IsThere(filepath.Join(requests, "c"+requestSuffix)) || !tapedir.IsThere(filepath.Join(requests, "b"+answerSuffix)); {
		if time.Since(start) > 10*time.Second {
			t.Fatal("not answered")
		}
		time.Sleep(time.Millisecond)
	}
	mustClose(t, w, 101*second)
	if err := os.Chmod(requests, 0o777); err != nil {
		t.Fatal(err)
	}
	w = mustOpenWriter(t, dir, options(110*second))
	stop := make(chan struct{})
	time.AfterFunc(100*time.Millisecond, func() { close(stop) })
	if _, err := Ask(dir, Request{Do: DoRotate}, WriterOptions{}, stop); err == nil {
		t.Error("a directory that anybody can write to was obeyed")
	}
	mustClose(t, w, 111*second)
	if _, err := Ask(t.TempDir(), Request{Do: DoRotate}, WriterOptions{}, nil); !errors.Is(err, failure.ErrNoTape) {
		t.Errorf("no tape: %v", err)
	}
}
