package recorder

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// stalled runs a recorder with a small buffer over a disk that takes nothing while play feeds it.
func stalled(t *testing.T, play func(src *script, now uint64)) *memory {
	t.Helper()
	src, out := newScript(), newMemory()
	out.gate = make(chan struct{})
	c := quick()
	c.buffer = 2 * MinBuffer
	stop := start(t, src, out, c, Options{})
	play(src, bootNow())
	waitFor(t, "the ring to drain", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
	time.Sleep(5 * c.tick)
	close(out.gate)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	return out
}

// to is a connect by a process to the nth of many addresses.
func to(k bpf.ProcessKey, boot uint64, n int) bpf.Connect {
	c := connectBy(k, boot)
	c.Remote = ipv4(10, byte(n>>16), byte(n>>8), byte(n), 22)
	return c
}

// single counts the rows of a process that stand for one attempt each and say where it went.
func single(m *memory, tgid uint32) (n int) {
	for _, r := range m.rows {
		if r.Task.Process.Key.Tgid == tgid && r.Count <= 1 && r.Shape.AddressSource != store.AddressDropped {
			n++
		}
	}
	return n
}

// attempts counts what the rows of a process stand for.
func attempts(m *memory, tgid uint32) (n int) {
	for _, r := range m.rows {
		if r.Task.Process.Key.Tgid == tgid {
			n += int(max(r.Count, 1))
		}
	}
	return n
}

func TestFloodOfNewAddressesIsCountedAgainstItsProcess(t *testing.T) {
	const n = 20_000
	k := key(1, 1, 1)
	var begin uint64
	out := stalled(t, func(src *script, now uint64) {
		begin = now
		src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/scan", "scan\x00"))
		for i := range n {
			src.connect(to(k, now+uint64(i), i))
		}
	})
	if out.counters["lost"] != 0 || attempts(out, 1) != n {
		t.Errorf("%d of %d attempts; counters %v", attempts(out, 1), n, out.counters)
	}
	rows := single(out, 1)
	if rows < 500 || rows == n {
		t.Errorf("%d rows of their own", rows)
	}
	var last uint64
	for _, r := range out.rows {
		if r.Shape.AddressSource != store.AddressDropped {
			continue
		}
		if r.Remote.Address != "" || r.Shape.Errno != store.Unknown || r.Cookie != 0 || r.FD != -1 || r.Local != nil || r.Task.Tid != 1 {
			t.Errorf("a row without addresses says %+v of %+v", r, r.Remote)
		}
		last = max(last, r.LastBootTime)
	}
	if last != begin+n-1 {
		t.Errorf("the last attempt is at %d, want %d", last-begin, n-1)
	}
}

// TestFloodCostsNobodyElse: however somebody floods, as many processes, users or cgroups as he has, another one's
// connects to new addresses have a row each.
func TestFloodCostsNobodyElse(t *testing.T) {
	const n, others = 20_000, 200
	victim := key(7, 7, 1)
	for name, flood := range map[string]func(i int, k *bpf.ProcessKey, c *bpf.Connect, p *bpf.Process){
		"one process": func(int, *bpf.ProcessKey, *bpf.Connect, *bpf.Process) {},
		"a process for each connect": func(i int, k *bpf.ProcessKey, _ *bpf.Connect, _ *bpf.Process) {
			k.Tgid = uint32(1000 + i)
		},
		"an exec for each connect": func(i int, k *bpf.ProcessKey, _ *bpf.Connect, _ *bpf.Process) {
			k.Exec = uint32(i)
		},
		"a thread for each connect": func(i int, _ *bpf.ProcessKey, c *bpf.Connect, _ *bpf.Process) {
			c.Tid = uint32(1000 + i)
		},
		"a cgroup for each process": func(i int, k *bpf.ProcessKey, c *bpf.Connect, p *bpf.Process) {
			k.Tgid = uint32(1000 + i)
			c.CgroupID, p.CgroupID = uint64(i+2), uint64(i+2)
			c.UID = 1000
		},
		"a chain of forks": func(i int, k *bpf.ProcessKey, c *bpf.Connect, p *bpf.Process) {
			k.Tgid = uint32(1000 + i)
			c.CgroupID = 5
			p.Parent = key(uint32(1000+i-1), 1, 1)
		},
		"uids of a user namespace": func(i int, k *bpf.ProcessKey, c *bpf.Connect, p *bpf.Process) {
			k.Tgid = uint32(1000 + i)
			c.UID, c.LoginUID = uint32(100_000+i), 1000
			p.Parent = key(uint32(1000+i-1), 1, 1)
		},
		"long arguments": func(i int, k *bpf.ProcessKey, _ *bpf.Connect, p *bpf.Process) {
			k.Tgid = uint32(1000 + i)
			p.Argv = slices.Repeat([]byte("x"), 4096)
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := stalled(t, func(src *script, now uint64) {
				src.process(execOf(victim, key(1, 1, 1), now, "/bin/victim", "victim\x00"))
				for i := range n {
					k, c := key(2, 1, 1), to(bpf.ProcessKey{}, now+uint64(i), i)
					p := execOf(k, key(100, 1, 1), now, "/bin/flood", "flood\x00")
					flood(i, &k, &c, &p)
					c.Key, p.Key = k, k
					if c.Tid == 0 {
						c.Tid = k.Tgid
					}
					src.process(p)
					src.connect(c)
					if i%(n/others) == 0 {
						src.connect(to(victim, now+uint64(i), 1<<20+i))
					}
				}
			})
			if got := single(out, 7); got != others {
				t.Errorf("%d of %d connects of the other process have their row", got, others)
			}
			t.Logf("of %d: %d stored, %d coalesced, %d lost", out.counters["seen"], out.counters["stored"], out.counters["coalesced"], out.counters["lost"])
		})
	}
}

func TestWhoLostIsSaid(t *testing.T) {
	out := stalled(t, func(src *script, now uint64) {
		for i := range 5000 {
			k := key(uint32(10+i), 1, 1)
			src.process(execOf(k, key(5, 1, 1), now, "/bin/bomb", "bomb\x00"))
			src.connect(to(k, now+uint64(i), i))
		}
		for i := range 50 {
			src.connect(to(key(5009, 1, 1), now+uint64(6000+i), i))
		}
	})
	if len(out.gaps) != 1 || out.gaps[0].Cause != causeMemory || out.gaps[0].Lost < 3000 {
		t.Fatalf("gaps %+v", out.gaps)
	}
	for _, want := range []string{"; children of pid 5, such as (comm) of uid 0 lost ", "; pid 5009 (comm) of uid 0 lost 5"} {
		if d := out.gaps[0].Detail; !strings.Contains(d, want) {
			t.Errorf("the gap says %q, want %q", d, want)
		}
	}
}

// TestWhoLostInTheRingIsSaid: what the kernel tells of it is in the gap, the children of one parent as one.
func TestWhoLostInTheRingIsSaid(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	src.mu.Lock()
	src.losers = []bpf.Loser{
		{Attempts: 70, First: now, Last: now + 5, Tgid: 4, Start: 4, UID: 1000, Comm: [16]byte{'f', '\x1b'}},
		{Attempts: 20, First: now, Last: now + 5, Tgid: 3, Start: 3, Children: true, Comm: [16]byte{'b'}},
	}
	src.mu.Unlock()
	src.lose(100)
	waitFor(t, "the gap", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return len(out.gaps) == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	for _, want := range []string{
		"; pid 4 (f\x1b) of uid 1000 lost 70 from ", "; children of pid 3, such as (b) of uid 0 lost 20 from ", "; others lost 10",
	} {
		if d := out.gaps[0].Detail; !strings.Contains(d, want) {
			t.Errorf("the gap says %q, want %q", d, want)
		}
	}
}

// TestLosersAreFew: any number of processes loses, and of those that are forgotten their parents are known.
func TestLosersAreFew(t *testing.T) {
	var l, all losers
	for i := range uint64(100_000) {
		l.lose(lifeKey{tgid: uint32(i)}, loser{pid: uint32(i), n: 1, first: i, last: i, parent: lifeKey{tgid: uint32(i % 3)}})
		if i%1000 == 0 {
			all.add(&l)
			l = losers{}
		}
	}
	all.add(&l)
	var n uint64
	for _, m := range []map[lifeKey]*loser{all.of, all.families} {
		if len(m) > mostLosers {
			t.Errorf("%d are kept", len(m))
		}
		for _, one := range m {
			n += one.n
		}
	}
	if n != 100_000 {
		t.Errorf("%d lost, want 100000", n)
	}
}

// TestSharesAddUp: whatever is queued and written in whatever order, what is charged is what is there, nothing at the
// end, and the whole never exceeds its bound.
func TestSharesAddUp(t *testing.T) {
	const bound = 1 << 20
	q := newQueue(bound, newTapeShares(0, new(atomic.Bool)))
	random := rand.New(rand.NewPCG(1, 2))
	var writing []*batch
	for i := range 200_000 {
		o := owner{login: random.Uint32N(3), uid: random.Uint32N(3), cgroup: random.Uint64N(5),
			parent: lifeKey{tgid: random.Uint32N(5)}, life: lifeKey{tgid: random.Uint32N(50)}}
		who := q.shares.find(o)
		row := &store.Connection{BootTime: uint64(i), Remote: &store.Endpoint{}}
		if q.add(row, who, need{memory: random.Int64N(2000)}, true) == refused {
			q.lump(row, who, need{})
		}
		if used := q.shares.all.used; used > bound || used < 0 {
			t.Fatalf("%d of %d bytes are used", used, bound)
		}
		switch random.IntN(500) {
		case 0:
			writing = append(writing, q.open)
			q.push()
		case 1, 2:
			if len(writing) > 0 {
				if b := q.take(); b != writing[0] {
					t.Fatal("another batch")
				}
				q.done(writing[0])
				writing = writing[1:]
			}
		}
	}
	q.push()
	q.close()
	for b := q.take(); b != nil; b = q.take() {
		q.done(b)
	}
	q.giveBack()
	for k, s := range q.shares.of {
		if s.used != 0 || s.open != 0 {
			t.Errorf("%+v still holds %d and %d bytes", k, s.used, s.open)
		}
	}
	q.shares.sweep()
	if q.shares.all.used != 0 || len(q.shares.of) != 0 {
		t.Errorf("%d bytes and %d shares are left", q.shares.all.used, len(q.shares.of))
	}
}

func TestSharesOfWhomNothingIsLeftAreDropped(t *testing.T) {
	s := newShares(1 << 20)
	for i := range uint32(1_000_000) {
		s.find(owner{login: i, life: lifeKey{tgid: i}})
	}
	if len(s.of) > 2*leastSweep {
		t.Errorf("%d shares", len(s.of))
	}
}

// TestSharesOfATapeAreFew: what short processes wrote stays on the tape long after them, and their shares must not stay in
// memory that long. What they belong to is charged on.
func TestSharesOfATapeAreFew(t *testing.T) {
	const tape = 10 << 30
	shares := newTapeShares(tape, new(atomic.Bool))
	q := newQueue(64<<20, shares)
	const n, each = 300_000, 700
	for i := range uint32(n) {
		who := q.find(owner{login: 1, cgroup: uint64(i % 10), parent: lifeKey{tgid: i % 1000}, life: lifeKey{tgid: i}})
		shares.charge(who, each)
	}
	if len(shares.shares.of) > 2*leastSweep {
		t.Errorf("%d shares are kept", len(shares.shares.of))
	}
	if used := shares.shares.find(owner{login: 1}).above.above.above.used; used < n*each*9/10 {
		t.Errorf("their login is charged with %d of %d bytes", used, n*each)
	}
}

// TestForgottenShareIsKnown: whoever is at work when shares are forgotten is no newcomer.
func TestForgottenShareIsKnown(t *testing.T) {
	shares := newTapeShares(10<<30, new(atomic.Bool))
	q := newQueue(64<<20, shares)
	o := owner{login: 1, life: lifeKey{tgid: 1}}
	shares.charge(q.find(o), 2000)
	shares.shares.sweepAt = 0
	shares.shares.sweep()
	who := q.find(o)
	if who.tape.gone || who.tape.used == 0 || len(shares.shares.of) != 4 {
		t.Errorf("the share is %+v", who.tape)
	}
}

// TestWhatAShareMayTake: most of the memory for one alone, and enough for whoever comes next.
func TestWhatAShareMayTake(t *testing.T) {
	fill := func(s *shares, o owner) int64 {
		who := s.find(o)
		for who.room() > 0 {
			who.charge(1)
		}
		return who.used
	}
	s := newShares(1 << 20)
	if got := fill(s, owner{}); got < 1<<19 {
		t.Errorf("one alone may take %d of %d", got, 1<<20)
	}
	for i := range uint32(3) { // each leaves an eighth of what he was left
		fill(s, owner{login: i + 1})
	}
	if left := s.find(owner{login: 1000}).room(); left < 10_000 {
		t.Errorf("%d bytes are left beside four", left)
	}
}
