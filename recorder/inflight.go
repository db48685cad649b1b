package recorder

import (
	"fmt"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// flying is an attempt that was written, or counted as excluded, before it returned.
type flying struct {
	row       writtenRow // none: it is excluded
	goneSince uint64     // when it was first missing from the kernel's map; 0 it is there, ns CLOCK_BOOTTIME
	absences  int        // sweeps in a row that missed it: a walk of a busy map may
	inherited bool       // an earlier recorder wrote the row, which is to be looked up
}

// inFlight writes attempts that take long as rows without a result, so that one that hangs is on the tape, and so is
// one that never returns. Their result follows as an update.
type inFlight struct {
	written map[bpf.ID]*flying
	present map[bpf.ID]struct{}
	own     uint64 // connects of our own that were in flight at the last sweep
}

func newInFlight() *inFlight {
	return &inFlight{written: map[bpf.ID]*flying{}, present: map[bpf.ID]struct{}{}}
}

// sweep writes what has been in flight for longer than age (ns) and is not written yet.
func (r *recorder) sweep(now, age uint64) error {
	clear(r.flight.present)
	r.flight.own = 0
	out := len(r.watch.out)
	err := r.src.InFlight(func(c *bpf.Connect) {
		if c.Flags&bpf.Reissue != 0 {
			return // its attempt has a row
		}
		if r.watch.flies(c) { // no row, whether it returns or not
			r.flight.own++
			return
		}
		if _, ok := r.flight.written[c.ID()]; ok {
			r.flight.present[c.ID()] = struct{}{}
			return
		}
		if c.BootTime+age > now {
			return
		}
		who := r.resolver.party(c)
		if r.exclude(c, who, 1) { // it may never return
			r.flight.written[c.ID()] = &flying{}
			r.flight.present[c.ID()] = struct{}{}
			return
		}
		row := &r.row
		if !r.resolver.address(c, who, row) || r.queue.add(row, who.share, r.resolver.need(who), false) == refused {
			return // its record is still to come
		}
		r.ledger.rows++
		r.ledger.inFlight++
		r.flight.written[c.ID()] = &flying{row: rowOf(row)}
		r.flight.present[c.ID()] = struct{}{}
	})
	if err != nil {
		return fmt.Errorf("read attempts in flight: %w", err)
	}
	if out > 0 && len(r.watch.out) == 0 {
		r.alive()
	}
	for id, f := range r.flight.written {
		if _, ok := r.flight.present[id]; ok {
			f.goneSince, f.absences = 0, 0
			continue
		}
		f.absences++
		if f.goneSince == 0 {
			f.goneSince = now
		}
	}
	return nil
}

// settle gives up on attempts that are no longer in flight and whose record did not come though everything up to
// horizon was read: the ring had no room for it. They have their row, so that they are not lost.
func (r *recorder) settle(horizon uint64) {
	for id, f := range r.flight.written {
		if f.absences > 1 && f.goneSince < horizon {
			delete(r.flight.written, id)
			r.ledger.recovered++
		}
	}
}

// landed turns the record of an attempt that was written in flight into the update of its row.
func (r *recorder) landed(c *bpf.Connect, f *flying) {
	delete(r.flight.written, c.ID())
	switch {
	case c.Errno == bpf.Unknown: // nobody saw it return
	case f.inherited:
		r.updateInherited(c)
	case f.row != (writtenRow{}): // or it is excluded
		r.update(c, f.row)
	}
}

// update gives a row the shape of c: what is known now that it has returned.
func (r *recorder) update(c *bpf.Connect, to writtenRow) {
	row := store.Connection{
		BootTime: to.boot, Cookie: to.cookie, Task: to.task, Remote: to.remote, Shape: r.resolver.shape(c), FD: c.FD, Update: true,
	}
	if len(c.Requested) > 0 && to.remote.Requested == nil {
		row.Shape = r.resolver.asked(row.Shape)
	}
	if r.queue.update(&row, r.resolver.party(c).share) == added {
		r.ledger.updated++
	}
}
