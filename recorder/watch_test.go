package recorder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// hookGaps returns what the tape says of hooks that were gone.
func hookGaps(out *memory) (gaps []store.Gap) {
	out.mu.Lock()
	defer out.mu.Unlock()
	for _, g := range out.gaps {
		if g.Cause == segment.CauseHook {
			gaps = append(gaps, g)
		}
	}
	return gaps
}

// watchful looks after its hooks all the time.
func watchful() config {
	c := quick()
	c.lookEvery, c.probeEvery = time.Millisecond, 10*time.Millisecond
	return c
}

func TestHookGone(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, watchful(), Options{})
	src.mu.Lock()
	src.gone = []string{"cgroup_connect4 was detached, and is attached again"}
	src.mu.Unlock()
	waitFor(t, "a gap", func() bool { return len(hookGaps(out)) > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	g := hookGaps(out)
	if len(g) != 1 || !g[0].LostUnknown || g[0].From == 0 || g[0].From >= g[0].To || !strings.Contains(g[0].Detail, "cgroup_connect4") {
		t.Errorf("%+v", g)
	}
}

// TestHookGoneAtTheEnd: what was done to the hooks since the last look is in a gap, too, when the recorder is stopped before the next one.
// Hooks that no longer see are not left to the next recorder.
func TestHookGoneAtTheEnd(t *testing.T) {
	const detached, blind = "cgroup_connect4 was detached, and is attached again", "a switch is 0"
	for name, c := range map[string]struct {
		harm func(*script)
		want []string
		left bool
	}{
		"detached":             {func(s *script) { s.gone = []string{detached} }, []string{detached}, true},
		"silenced":             {func(s *script) { s.blind = fmt.Errorf("%w: %s", bpf.ErrBlind, blind) }, []string{blind}, false},
		"detached, unreadable": {func(s *script) { s.gone, s.blind = []string{detached}, errors.New("no answer") }, []string{detached}, true},
		"untouched":            {func(*script) {}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			src, out := newScript(), newMemory()
			r := newRecorder(src, out, quick(), hostFiles{proc: procOf(t), passwd: "/etc/passwd"})
			r.heritage = &left{script: src}
			r.watch.nextLook = r.boot() + uint64(time.Hour)
			c.harm(src)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.run(ctx, Options{}); err != nil {
				t.Fatal(err)
			}
			gaps := hookGaps(out)
			if len(gaps) != len(c.want) {
				t.Fatalf("gaps: %+v", gaps)
			}
			for i, g := range gaps {
				if !g.LostUnknown || g.From == 0 || g.From >= g.To || !strings.Contains(g.Detail, c.want[i]) {
					t.Errorf("the gap is %+v", g)
				}
			}
			if src.detached == c.left {
				t.Errorf("left to the next recorder: %t", !src.detached)
			}
		})
	}
}

// TestBlind: a backend that the kernel silenced, or that sees no connect of our own, ends, with a gap.
func TestBlind(t *testing.T) {
	for name, blind := range map[string]func(*script){
		"silenced": func(s *script) { s.blind = fmt.Errorf("%w: a switch is 0", bpf.ErrBlind) },
		"unseen":   func(s *script) { s.unseen = true },
	} {
		t.Run(name, func(t *testing.T) {
			src, out := newScript(), newMemory()
			stop := start(t, src, out, watchful(), Options{})
			src.mu.Lock()
			blind(src)
			src.mu.Unlock()
			waitFor(t, "the end", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return out.stop != nil })
			if err := stop(); !errors.Is(err, bpf.ErrBlind) {
				t.Errorf("ended with %v", err)
			}
			if g := hookGaps(out); len(g) != 1 || !g[0].LostUnknown || g[0].From >= g[0].To {
				t.Errorf("%+v", g)
			}
			accounted(t, out)
		})
	}
}

// TestProbeInFlood: a probe whose record may be among those that found the ring full accuses nobody; it is made again.
func TestProbeInFlood(t *testing.T) {
	for lost, want := range map[uint64]error{0: bpf.ErrBlind, 1: nil} {
		r := newRecorder(newScript(), newMemory(), quick(), hostFiles{proc: procOf(t), passwd: "/etc/passwd"})
		now := r.boot()
		r.watch.out[7], r.watch.sent, r.horizon = bpf.Probe{Cookie: 7}, now, now+uint64(time.Minute)
		if err := r.missProbes(now+uint64(time.Minute), bpf.Counters{LostRing: lost}); !errors.Is(err, want) {
			t.Errorf("%d lost by the ring: %v", lost, err)
		}
		if len(r.watch.out) > 0 || r.ledger.gaps.pending() != (want != nil) {
			t.Errorf("%d lost by the ring: %d out, %+v", lost, len(r.watch.out), r.ledger.gaps.take())
		}
	}
}

// TestProbeInFlight: a probe that the hooks saw, and whose return they did not, accuses nobody and is a sign of life, whoever finds it.
// Its record, whenever it comes, is no row.
func TestProbeInFlight(t *testing.T) {
	for name, find := range map[string]func(r *recorder, now uint64) error{
		"judged": func(r *recorder, now uint64) error { return r.missProbes(now, bpf.Counters{}) },
		"swept":  func(r *recorder, now uint64) error { return r.sweep(now, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			src := newScript()
			r := newRecorder(src, newMemory(), quick(), hostFiles{proc: procOf(t), passwd: "/etc/passwd"})
			lives := 0
			r.service.Alive = func() { lives++ }
			now := r.boot()
			later, probe := now+uint64(time.Minute), bpf.Connect{Cookie: 7, BootTime: now, Tid: 9}
			src.begin(probe)
			r.watch.out[7], r.watch.sent, r.horizon = bpf.Probe{Cookie: 7}, now, later
			if err := find(r, later); err != nil || r.ledger.gaps.pending() || lives != 1 {
				t.Errorf("%v, gap %t, %d signs of life", err, r.ledger.gaps.pending(), lives)
			}
			if err := r.sweep(later, 0); err != nil {
				t.Fatal(err)
			}
			if len(r.watch.out) > 0 || r.flight.own != 1 || len(r.queue.open.Connections) != 0 {
				t.Errorf("%d probes are out, %d in flight, %d rows", len(r.watch.out), r.flight.own, len(r.queue.open.Connections))
			}
			src.end(probe)
			r.take(&probe)
			if err := r.sweep(later, 0); err != nil {
				t.Fatal(err)
			}
			if len(r.watch.unreturned) != 0 || r.ledger.own != 1 || r.flight.own != 0 || len(r.queue.open.Connections) != 0 {
				t.Errorf("%d unreturned, %d own, %d of them in flight, %d rows", len(r.watch.unreturned), r.ledger.own, r.flight.own, len(r.queue.open.Connections))
			}
		})
	}
}

// TestProbeIsNoRow: a connect of our own that comes back is counted, and no row.
func TestProbeIsNoRow(t *testing.T) {
	r := newRecorder(newScript(), newMemory(), quick(), hostFiles{proc: procOf(t), passwd: "/etc/passwd"})
	r.watch.out[7] = bpf.Probe{Cookie: 7}
	r.take(&bpf.Connect{Cookie: 7})
	if len(r.watch.out) != 0 || r.ledger.own != 1 || len(r.queue.open.Connections) != 0 {
		t.Errorf("%d out, %d own, %d rows", len(r.watch.out), r.ledger.own, len(r.queue.open.Connections))
	}
	r.ledger.kernel.Seen = 1
	if r.publish(); r.progress.seen.Load() != 0 {
		t.Errorf("the status line counts %d connects", r.progress.seen.Load())
	}
}

// TestChecksAreNoRows: the connects by which a capture was tried before the recorder began are counted, and no rows,
// whether they returned or not.
func TestChecksAreNoRows(t *testing.T) {
	src, out := newScript(), newMemory()
	src.checks = []bpf.Probe{{Cookie: 7, What: "a connect"}, {Cookie: 8, What: "a connect whose return nobody saw"}}
	src.connect(bpf.Connect{Cookie: 7, Tid: 9})
	src.begin(bpf.Connect{Cookie: 8, BootTime: 1, Tid: 9})
	stop := start(t, src, out, quick(), Options{})
	waitFor(t, "the check", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := out.count(); n != 0 || out.counters["own"] != 2 {
		t.Errorf("%d rows, %d connects of our own", n, out.counters["own"])
	}
	accounted(t, out)
}
