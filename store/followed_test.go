package store

import (
	"testing"
	"time"
)

// The rows of sockets that are open are found by their cookies: the newest connect of a socket, in whatever segment, with what was
// told of it last; none whose end was told, of another boot, or that was told of too long ago.
func TestFindFollowed(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	w.now = func(string) (Anchor, error) { return at(120 * second), nil }
	x := newWorld()
	open := unmeasured()
	open.Established, open.RTT = 5, 7
	ended := *closedOutcome()
	seen := open
	seen.Sent, seen.SeenOpen = 10, 15_000
	connect := func(boot, cookie uint64) Connection {
		c := x.with(boot, 0, FinalEstablished, &open)
		c.Cookie = cookie
		return c
	}
	mustAppend(t, w, Batch{Now: 110 * second, Connections: []Connection{
		connect(101*second, 1), connect(102*second, 2), connect(103*second, 3), connect(104*second, 4), connect(105*second, 4),
	}, Endings: []Ending{{Connect: 104 * second, Cookie: 4, Final: FinalEstablished, Outcome: &ended}}})
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, Batch{Now: 130 * second, Connections: []Connection{connect(121*second, 5)}, Endings: []Ending{
		{Connect: 102 * second, Cookie: 2, Final: FinalEstablished, Outcome: &ended},
		{Connect: 103 * second, Cookie: 3, Final: FinalEstablished, Outcome: &seen},
	}})
	waitSealed(t, w)
	mustClose(t, w, 131*second)
	find := func(boot string, within time.Duration) map[uint64]Followed {
		t.Helper()
		found, err := FindFollowed(t.Context(), dir, boot, []uint64{1, 2, 3, 4, 5, 6}, within)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	boot := options(0).BootID
	found := find(boot, time.Hour)
	for cookie, want := range map[uint64]Followed{1: {101 * second, open}, 3: {103 * second, seen}, 4: {105 * second, open}, 5: {121 * second, open}} {
		got := found[cookie]
		if got.Outcome.Local = nil; got != want {
			t.Errorf("cookie %d: %+v, want %+v", cookie, got, want)
		}
	}
	if len(found) != 4 {
		t.Errorf("found %+v", found)
	}
	if found := find(boot, 5*time.Second); len(found) != 2 { // the newest segment alone
		t.Errorf("in the last seconds: %+v", found)
	}
	if found := find("another-boot", time.Hour); len(found) != 0 {
		t.Errorf("of another boot: %+v", found)
	}
	if found, err := FindFollowed(t.Context(), dir+"/none", boot, []uint64{1}, time.Hour); err != nil || len(found) != 0 {
		t.Errorf("where no tape is: %+v, %v", found, err)
	}
}
