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
			got := q.add(row, who, endpointBytes, true)
			if got == refused {
				got = q.lump(row, who, 0)
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
			if q.add(&store.Connection{Remote: &store.Endpoint{}}, q.find(owner{login: 1}), endpointBytes, true) != added {
				t.Fatalf("after %d minutes it has no row", i)
			}
		}
		q.push()
		q.done(q.take())
		q.tape.age(i * uint64(time.Minute))
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
