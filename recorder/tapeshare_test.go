package recorder

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/tapelog"
)

// TestFloodHoldsHalfOfAFullTape: one process floods for 90 days, another does little. While there is room each connect of
// both has its row; then those of the other one still have, and the flood takes less each day.
func TestFloodHoldsHalfOfAFullTape(t *testing.T) {
	const tape, flood, little = 4 << 20, 40, 1
	full := new(atomic.Bool)
	q := newQueue(64<<20, newTapeShares(tape, full))
	loud := owner{login: 1, life: lifeKey{tgid: 1}}
	quiet := owner{login: 2, life: lifeKey{tgid: 2}}
	now := uint64(0)
	// minute plays one: it returns the rows of each.
	minute := func() (flooded, others int) {
		add := func(o owner) int {
			row := &store.Connection{Remote: &store.Endpoint{}}
			who := q.find(o)
			got := q.add(row, who, need{endpointBytes, endpointBytes / 2}, true)
			if got == refused {
				got = q.lump(row, who, need{})
			}
			if got == added {
				return 1
			}
			return 0
		}
		for range flood {
			flooded += add(loud)
		}
		for range little {
			others += add(quiet)
		}
		q.push()
		q.done(q.take())
		now += uint64(time.Minute)
		q.tape.age(now)
		return flooded, others
	}
	for range 1000 {
		if f, o := minute(); f != flood || o != little {
			t.Fatalf("on a tape with room %d of %d and %d of %d rows", f, flood, o, little)
		}
	}
	full.Store(true)
	const day = 24 * 60
	var days [91]int
	for i := range 90 * day {
		f, o := minute()
		if o != little {
			t.Fatalf("the other process has %d of %d rows", o, little)
		}
		days[i/day] += f - 1 // beside the one that counts the rest
	}
	const row = (int(rowBytes) + endpointBytes) / 2
	if most := tape / 2 / row * 5 / 4; days[0] > most || days[0] == 0 {
		t.Errorf("on the first day the flood has %d rows, at most %d are half a tape", days[0], most)
	}
	if days[89] > days[0]/8 {
		t.Errorf("on the first day the flood has %d rows, and on the last still %d", days[0], days[89])
	}
}

// TestSlowProcessHoldsAllOfATape: whoever does not flood is not bound, however much of the tape is his.
func TestSlowProcessHoldsAllOfATape(t *testing.T) {
	full := new(atomic.Bool)
	full.Store(true)
	const tape = 4 << 20
	q := newQueue(64<<20, newTapeShares(tape, full))
	for i := range uint64(30 * 24 * 60) { // half a tape in a day are 8 rows a minute
		for range 3 {
			if q.add(&store.Connection{Remote: &store.Endpoint{}}, q.find(owner{login: 1}), need{endpointBytes, endpointBytes / 2}, true) != added {
				t.Fatalf("after %d minutes it has no row", i)
			}
		}
		q.push()
		q.done(q.take())
		q.tape.age(i * uint64(time.Minute))
	}
}

// TestFloodTakesTheTapeEverSlower holds the table of docs/capture.md: however many processes of one login flood, and however often the
// recorder is restarted, what they write of a full tape takes that long.
func TestFloodTakesTheTapeEverSlower(t *testing.T) {
	const tape, day = 4 << 20, 24 * 60
	for name, one := range map[string]struct {
		processes, each int // connects of one a minute
		restart         int // minutes
	}{
		"one process":               {1, 20, 0},
		"many processes":            {40, 1, 0},
		"a restart in each hour":    {1, 20, 60},
		"a restart in each quarter": {40, 1, 15},
	} {
		t.Run(name, func(t *testing.T) {
			full := new(atomic.Bool)
			shares := newTapeShares(tape, full)
			q := newQueue(64<<20, shares)
			var row store.Connection
			now, flooded, others, missing := uint64(0), int64(0), 0, 0
			minute := func(i int) {
				for p := range one.processes {
					who := q.find(owner{login: 1, life: lifeKey{tgid: uint32(p)}})
					login := who.tape.above.above.above
					for range one.each {
						before := login.used
						row = store.Connection{Remote: &store.Endpoint{}}
						if q.add(&row, who, need{endpointBytes, endpointBytes / 2}, true) == refused {
							q.lump(&row, who, need{})
						}
						flooded += max(0, login.used-before) // but for where it shrinks
					}
				}
				if who := q.find(owner{login: 2}); i%10 == 0 {
					row = store.Connection{Remote: &store.Endpoint{}}
					others++
					if q.add(&row, who, need{endpointBytes, endpointBytes / 2}, true) != added {
						missing++
					}
				}
				q.push()
				q.done(q.take())
				now += uint64(time.Minute)
				q.tape.age(now)
			}
			for i := range 2 * 60 {
				minute(i)
			}
			full.Store(true)
			flooded = 0
			reach := map[int]int64{} // by minutes
			for i := range 90 * day {
				if one.restart > 0 && i%one.restart == 0 {
					text := shares.keep(true)
					full = new(atomic.Bool)
					shares = newTapeShares(tape, full)
					if err := shares.recall(text); err != nil || !full.Load() {
						t.Fatalf("full %v, error %v", full.Load(), err)
					}
					shares.aged = now
					q = newQueue(64<<20, shares)
				}
				minute(i)
				reach[i+1] = flooded
			}
			for minutes, most := range map[int]float64{18 * 60: 0.75, 90 * 60: 1, 378 * 60: 1.25, 1530 * 60: 1.5, 90 * day: 1.6} {
				if got := float64(reach[minutes]) / tape; got > most*1.03 {
					t.Errorf("after %d hours the flood has written %.2f tapes, at most %.2f are said", minutes/60, got, most)
				}
			}
			if got := float64(reach[90*day]) / tape; got < 1 {
				t.Errorf("in 90 days the flood has written %.2f tapes", got)
			}
			if missing > 0 {
				t.Errorf("of %d connects of the other process %d have no row", others, missing)
			}
		})
	}
}

// TestSharesAreKept: a recorder leaves who wrote how much of the tape to the next one.
func TestSharesAreKept(t *testing.T) {
	const tape = 1 << 20
	loud := owner{login: 1, uid: 1, cgroup: 7, parent: lifeKey{3, 4}, life: lifeKey{5, 6}}
	flood := func() *tapeShares {
		full := new(atomic.Bool)
		full.Store(true)
		shares := newTapeShares(tape, full)
		shares.bootID = "a"
		who := &share{tape: shares.find(loud)}
		for range 1000 {
			shares.charge(who, 1000)
		}
		if !shares.over(who) {
			t.Fatal("the flood may go on")
		}
		return shares
	}
	for name, one := range map[string]struct {
		change func(next *tapeShares, text []byte) []byte
		over   bool
		bad    bool
	}{
		"as it was":          {over: true},
		"the host was reset": {func(next *tapeShares, text []byte) []byte { next.bootID = "b"; return text }, true, false},
		"a larger tape":      {func(next *tapeShares, text []byte) []byte { next.bytes *= 2; return text }, false, false},
		"nothing":            {func(*tapeShares, []byte) []byte { return nil }, false, false},
		"a torn file":        {func(_ *tapeShares, text []byte) []byte { return text[:len(text)/2] }, false, true},
		"a false one":        {func(*tapeShares, []byte) []byte { return []byte(`{"Bytes":1,"Shares":[{"Above":0}]}`) }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			text := flood().keep(false)
			if len(text) == 0 || len(text) > 64<<10 {
				t.Fatalf("%d bytes are kept", len(text))
			}
			next := newTapeShares(tape, new(atomic.Bool))
			next.bootID = "a"
			if one.change != nil {
				text = one.change(next, text)
			}
			if err := next.recall(text); (err != nil) != one.bad {
				t.Errorf("error %v", err)
			}
			who := &share{tape: next.find(loud)}
			if got := next.over(who); got != one.over {
				t.Errorf("the flood is over its share: %v", got)
			}
			if other := (&share{tape: next.find(owner{login: 9})}); next.over(other) || next.pressed(other) {
				t.Error("another is bound")
			}
		})
	}
}

// TestKeptSharesAreSmall: however many hold something of the tape, what is kept can be read again.
func TestKeptSharesAreSmall(t *testing.T) {
	shares := newTapeShares(1<<40, new(atomic.Bool))
	shares.bootID = "00000000-0000-0000-0000-000000000000"
	for i := range uint64(2000) {
		o := owner{login: uint32(i), uid: uint32(i), cgroup: 1 << 60, parent: lifeKey{1 << 60, 1 << 30}, life: lifeKey{1 << 60, 1 << 30}}
		shares.charge(&share{tape: shares.find(o)}, 1<<40/leastKept)
	}
	if text := shares.keep(true); len(text) == 0 || len(text) > 64<<10 {
		t.Errorf("%d bytes are kept", len(text))
	}
}

// TestForkBombOnAFullTape: children of one parent together may hold no more than one process, and what is not told of
// them is counted.
func TestForkBombOnAFullTape(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	full := new(atomic.Bool)
	full.Store(true)
	c.tape = newTapeShares(1<<20, full)
	stop := start(t, src, out, c, Options{})
	now, victim := bootNow(), key(7, 7, 1)
	src.process(execOf(victim, key(6, 1, 1), now, "/bin/victim", "victim\x00"))
	const n, others = 10_000, 100
	for i := range n {
		k := key(uint32(1000+i), 1, 1)
		src.process(execOf(k, key(5, 1, 1), now, "/bin/bomb", "bomb\x00"))
		src.connect(to(k, now+uint64(i), i))
		if i%(n/others) == 0 {
			src.connect(to(victim, now+uint64(i), 1<<20+i))
		}
	}
	waitFor(t, "the ring to drain", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if got := single(out, 7); got != others {
		t.Errorf("%d of %d connects of the other process have their row", got, others)
	}
	if stored, lost := out.counters["stored"], out.counters["lost_share"]; stored > 3000 || lost == 0 || stored+lost != n+others {
		t.Errorf("%d stored, %d lost: %v", stored, lost, out.counters)
	}
}

func TestTapeIsFullWhenHistoryGoesForItsSize(t *testing.T) {
	for why, want := range map[string]bool{tapelog.ExpiredAge: false, tapelog.ExpiredSize: true, tapelog.ExpiredFull: true} {
		full, told := new(atomic.Bool), 0
		listen := noticeFull(full, func(store.Event) { told++ })
		listen(store.RunStarted{})
		listen(store.SegmentExpired{Why: why})
		if full.Load() != want || told != 2 {
			t.Errorf("after one went for %s: full %v, %d told", why, full.Load(), told)
		}
	}
	var k bpf.ProcessKey
	q := newQueue(MinBuffer, newTapeShares(0, new(atomic.Bool)))
	if who := q.find(owner{life: lifeOf(k)}); who.tape != nil || q.tape.over(who) {
		t.Error("a tape without a bound has shares")
	}
}
