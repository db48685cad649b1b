package store

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/conntape/conntape/store/segment"
)

// A connect returns after the segment that has its row was closed: the row gets its
// result, the chain tells so, and the segment is sealed at the end.
func TestOutcomeAfterRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	var told []SegmentSealed
	o := options(100 * second)
	o.Events = func(e Event) {
		if s, ok := e.(SegmentSealed); ok {
			told = append(told, s)
		}
	}
	w := mustOpenWriter(t, dir, o)
	w.now = func(string) (Anchor, error) { return at(105 * second), nil }
	x := newWorld()
	pending := func(boot uint64) Connection {
		c := x.connection(boot)
		c.Shape = x.tcpPending
		return c
	}
	done := func(c Connection) Connection {
		c.Update, c.Shape = true, &Shape{SocketFamily: 2, Type: 1, Protocol: 6, Via: "connect", Errno: 110}
		return c
	}
	a, b, c := pending(101*second), pending(102*second), pending(103*second)
	b.Remote, b.Cookie = x.v6, 0
	mustAppend(t, w, Batch{Connections: []Connection{a, b, c}, Now: 104 * second, Counters: segment.Counters{"in_flight_stored": 3, "stored": 3, "seen": 3}})
	w.writing.Lock()
	err := w.rotate(ReasonSize)
	w.writing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	d := x.connection(106 * second)
	mustAppend(t, w, Batch{Connections: []Connection{done(a), done(b), d, done(pending(99 * second))}, Now: 107 * second,
		Counters: segment.Counters{"in_flight_stored": 3, "updated": 2, "stored": 4, "seen": 4}})
	mustAppend(t, w, Batch{Connections: []Connection{done(a)}, Now: 108 * second}) // again: nothing to do
	time.Sleep(10 * time.Millisecond)
	if s := w.catalog.find(1); s == nil || len(told) != 0 {
		t.Fatal("it does not wait")
	}
	mustClose(t, w, 110*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT segment, outcome FROM connections ORDER BY time_ns")
	if want := []string{"1|timed out", "1|timed out", "1|unknown", "2|refused"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := tape.Segments()[1].Counters[missedUpdatesCounter]; n != 1 { // the one of no row
		t.Errorf("%d missed", n)
	}
	chains := chainsOf(t, tape, 1)
	if len(told) != 1 || told[0].Batches != 3 || told[0].Chain != chains[2] || len(chains) != 2 {
		t.Errorf("told %+v, chains %v", told, chains)
	}
}

// Without attempts in flight nothing waits.
func TestSealingDoesNotWaitForNothing(t *testing.T) {
	w := mustOpenWriter(t, t.TempDir(), options(100*second))
	w.now = func(string) (Anchor, error) { return at(105 * second), nil }
	mustAppend(t, w, Batch{Now: 101 * second, Counters: segment.Counters{"in_flight_stored": 3, "updated": 3}})
	w.writing.Lock()
	err := w.rotate(ReasonSize)
	w.writing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	w.wakeKeeper()
	waitSealed(t, w)
	mustClose(t, w, 110*second)
}
