package recorder

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// The recorder watches its own hooks, because whoever becomes root takes them away first. Often it compares what is attached
// with what it attached; now and then it connects by itself, through each path, and wants to see that connect in the ring.
const (
	lookEvery  = 5 * time.Second // so that a look falls within the heartbeat of a recorder that sleeps
	probeEvery = time.Minute
)

// watch is the recorder's watch over its hooks. It belongs to the draining goroutine.
type watch struct {
	nextLook, nextProbe uint64
	proven              uint64 // until then the hooks are known to have been there, ns CLOCK_BOOTTIME
	out                 map[uint64]bpf.Probe
	sent                uint64 // when the probes in out connected
	lost                uint64 // records that did not come by then: a probe may be among those that do not later
	noURing             bool   // the last round had no probes by io_uring
	// Cookies of probes that the hooks saw, and whose return they have not: with 4,096 connects waiting, a kretprobe has no
	// instance left. The record comes when the thread connects again, or ends.
	unreturned map[uint64]struct{}
}

func newWatch(now uint64, checks []bpf.Probe, c config) watch {
	w := watch{proven: now, nextProbe: now + uint64(c.probeEvery), out: map[uint64]bpf.Probe{}, unreturned: map[uint64]struct{}{}}
	w.await(checks, now, 0)
	return w
}

// await wants the records of connects of our own, which were made at now, when so many others had not come.
func (w *watch) await(probes []bpf.Probe, now, lost uint64) {
	w.sent, w.lost = now, lost
	for _, p := range probes {
		w.out[p.Cookie] = p
	}
}

// back takes a connect of our own out of the stream. It is no row.
func (w *watch) back(c *bpf.Connect) bool {
	_, out := w.out[c.Cookie]
	_, unreturned := w.unreturned[c.Cookie]
	delete(w.out, c.Cookie)
	delete(w.unreturned, c.Cookie)
	return out || unreturned
}

// flies tells whether an attempt in flight is a connect of our own. Then the hooks have seen it.
func (w *watch) flies(c *bpf.Connect) bool {
	if _, out := w.out[c.Cookie]; out {
		delete(w.out, c.Cookie)
		w.unreturned[c.Cookie] = struct{}{}
	}
	_, ours := w.unreturned[c.Cookie]
	return ours
}

// lookAfterHooks does what is due of the watch. The error wraps bpf.ErrBlind where recording cannot go on with this
// backend; the gap that tells of it is noted already.
func (r *recorder) lookAfterHooks(now uint64, k bpf.Counters) error {
	w := &r.watch
	if err := r.missProbes(now, k); err != nil {
		return err
	}
	r.lookAtTouches(now)
	if now < w.nextLook {
		return nil
	}
	w.nextLook = now + uint64(r.config.lookEvery)
	r.lookAround(now)
	known, err := r.lookAtHooks(now)
	if err != nil || !known {
		return err
	}
	if now < w.nextProbe || len(w.out) > 0 {
		return nil
	}
	w.nextProbe = now + uint64(r.config.probeEvery)
	probes, err := r.src.Probe()
	noURing := errors.Is(err, bpf.ErrNoURing)
	if err != nil && !(noURing && w.noURing) { // that is said once
		r.log.Warn("hooks not probed in every way", "error", err)
	}
	w.noURing = noURing
	w.await(probes, now, k.LostRing+r.ledger.stolen)
	return nil
}

// lookAtHooks mends and tells what was done to the hooks since the last look. known is false where the kernel does not tell. The error wraps
// bpf.ErrBlind where recording cannot go on with this backend.
func (r *recorder) lookAtHooks(now uint64) (known bool, err error) {
	gone, err := r.src.Watch()
	blind := errors.Is(err, bpf.ErrBlind)
	if blind {
		gone = append(gone, err.Error())
	}
	if len(gone) > 0 {
		r.hookGone(now, strings.Join(gone, "; "))
		r.watch.nextProbe = now
	}
	if err != nil && !blind {
		r.log.Warn("hooks not watched", "error", err)
		return false, nil
	}
	r.watch.proven = now
	return true, err
}

// lookAtHooksLast looks at the hooks once more before they are left or detached: what was done to them since the last look would be in no gap.
// It returns whether the next recorder can have them. The gap says why not, and stopping is no failure for that.
func (r *recorder) lookAtHooksLast() (see bool) {
	_, err := r.lookAtHooks(r.boot())
	return err == nil
}

// missProbes looks for connects of our own that should have come back by now: the ring was read beyond them, and they are not in
// flight. While records are lost or stolen nothing follows from one that does not.
func (r *recorder) missProbes(now uint64, k bpf.Counters) error {
	w := &r.watch
	if within := w.sent + uint64(r.config.flightAge); len(w.out) == 0 || r.horizon < within {
		return nil
	}
	for range 2 { // a walk of a busy map may miss one
		if err := r.src.InFlight(func(c *bpf.Connect) { w.flies(c) }); err != nil {
			return fmt.Errorf("read attempts in flight: %w", err)
		}
	}
	if len(w.out) == 0 {
		r.alive()
		return nil
	}
	var missing []string
	for _, p := range w.out {
		missing = append(missing, p.What)
	}
	clear(w.out)
	if k.LostRing+r.ledger.stolen != w.lost {
		w.nextProbe = now
		r.alive()
		return nil
	}
	what := "the hooks do not see a connect of our own: " + strings.Join(missing, ", ")
	r.hookGone(now, what)
	return fmt.Errorf("%w: %s", bpf.ErrBlind, what)
}

// hookGone notes that hooks were not there, since when at the most. How many connects went by nobody knows.
func (r *recorder) hookGone(now uint64, detail string) {
	r.log.Error("recording had holes", "detail", detail)
	r.ledger.gaps.tell(store.Gap{From: r.watch.proven, To: now, Cause: segment.CauseHook, LostUnknown: true, Detail: detail})
}
