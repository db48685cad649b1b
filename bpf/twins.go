package bpf

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// While old and new programs are attached both see each connect, each with a clock reading of its own. Which two records are of one
// connect follows from the order of programs at a hook: a thread makes one connect at a time, and at each the same one of the two comes
// first. So in the records of a thread, by time, a record of the second directly behind a like one of the first is of the same connect.
// Where programs at a later hook stand alone, since those of an earlier one come later or went before, they tell of a connect when it
// returns: it is the one that the others told of directly before, however long it took.
// While the new ones are attached one after another the order may be the other way: those that begin at a later hook are there, and those
// that begin at an earlier one are not. Of that time those that are closest belong together, in the other order within attachSkew. All else was seen by one of the two alone.

// clockSkew is the most by which the clock that programs read goes back when the kernel adjusts it, with room (ktime_get_boot_fast_ns), ns.
const clockSkew = 1e5

// attachSkew is the most by which clock readings for one connect differ where the order does not tell, ns: a virtual machine among others
// may stand still for 10 ms between two programs. While new programs come the old ones see all: what the new ones saw has a twin, the closest.
const attachSkew = 1e8

// A sight is a record of an old or a new program.
type sight struct {
	id      ID
	cookie  uint64
	to      string // fd and address
	isNew   bool
	alone   bool // its programs saw the return alone, whose time it has
	lacks   int  // 0: nothing; 1: the verdict; 2: the begin or the return
	matched bool
}

// sightOf is of a record of c's programs.
func (c *Capture) sightOf(rec *Connect, isNew bool) sight {
	s := sight{id: rec.ID(), cookie: rec.Cookie, to: fmt.Sprint(rec.FD, rec.Remote), isNew: isNew, alone: c.sawReturnAlone(rec)}
	switch {
	case s.alone || rec.Flags&ReturnLost != 0:
		s.lacks = 2
	case rec.HookErrno == Unknown:
		s.lacks = 1
	}
	return s
}

// like tells whether two records, b the later one, may be of one connect: none begins after it has returned.
func (a *sight) like(b *sight) bool {
	return !(a.alone && !b.alone) && !a.matched && !b.matched && a.isNew != b.isNew && a.id.Tid == b.id.Tid && a.to == b.to && (a.cookie == b.cookie || a.cookie == 0 || b.cookie == 0)
}

// newComeFirst tells whether new programs run before old ones: a trampoline and a kprobe run first what was attached last, a cgroup what
// was attached first; and a kprobe at the function's begin comes before a trampoline at its end, and that before what the cgroup runs.
func newComeFirst(old, now Backend) bool {
	if old == now {
		return now != Cgroup
	}
	order := []Backend{Kprobe, Fexit, Cgroup}
	return slices.Index(order, now) < slices.Index(order, old)
}

// twinsOf returns the old records of connects that the new programs have, too, and those new ones that know less than the old. New programs
// were all attached at a time in ns CLOCK_BOOTTIME.
func twinsOf(all []sight, newFirst bool, attached uint64) (old, poor map[ID]struct{}) {
	slices.SortFunc(all, func(a, b sight) int {
		order := 0 // of equal times
		if a.isNew != b.isNew {
			order = 1
			if a.isNew == newFirst {
				order = -1
			}
		}
		return cmp.Or(cmp.Compare(a.id.Tid, b.id.Tid), cmp.Compare(a.id.BootTime, b.id.BootTime), order)
	})
	old, poor = map[ID]struct{}{}, map[ID]struct{}{}
	pair := func(a, b *sight) {
		a.matched, b.matched = true, true
		if b.isNew {
			a, b = b, a
		}
		if a.lacks > b.lacks {
			poor[a.id] = struct{}{}
		} else {
			old[b.id] = struct{}{}
		}
	}
	for _, i := range closest(all, newFirst, attached) {
		if all[i-1].like(&all[i]) {
			pair(&all[i-1], &all[i])
		}
	}
	for i := 1; i < len(all); i++ {
		if a, b := &all[i-1], &all[i]; a.isNew == newFirst && a.like(b) {
			pair(a, b)
		}
	}
	for i := 1; i < len(all); i++ {
		if a, b := &all[i-1], &all[i]; a.like(b) && (b.alone || b.id.BootTime-a.id.BootTime < clockSkew) {
			pair(a, b)
		}
	}
	return old, poor
}

// closest returns the places of records of the time when programs were attached that may be of the same connect as the one before, the
// closest first.
func closest(all []sight, newFirst bool, attached uint64) (places []int) {
	apart := func(i int) uint64 { return all[i].id.BootTime - all[i-1].id.BootTime }
	for i := 1; i < len(all); i++ {
		if a := &all[i-1]; a.like(&all[i]) && a.id.BootTime < attached && (a.isNew == newFirst || apart(i) < attachSkew) {
			places = append(places, i)
		}
	}
	slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(apart(a), apart(b)) })
	return places
}

// skips tells whether a connect has a better record among those of replaced programs. It is as if nobody had seen it.
func (c *Capture) skips(rec *Connect) bool {
	if rec.BootTime < c.sendsFrom && rec.Via.IsSend() {
		return c.unsee()
	}
	if len(c.skipped) > 0 {
		if _, ok := c.skipped[rec.ID()]; ok {
			delete(c.skipped, rec.ID())
			return c.unsee()
		}
	}
	if cookie, ok := c.hung[rec.Tid]; ok {
		delete(c.hung, rec.Tid)
		if c.sawReturnAlone(rec) && rec.Cookie == cookie {
			return c.unsee()
		}
	}
	return false
}

// sawReturnAlone tells whether no hook of c saw a connect begin.
func (c *Capture) sawReturnAlone(rec *Connect) bool {
	return c.backend == Fexit && rec.HookErrno == Unknown || c.backend == Cgroup && rec.Flags&AddressFromUser != 0
}

func (c *Capture) unsee() bool {
	c.base.Seen++
	c.base.Sent++
	return true
}

func bootNow() uint64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return uint64(now.Nano())
}
