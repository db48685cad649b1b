package recorder

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// Sockets that are open. Those that were connected before the recorder began are looked for once: the row of one that an
// earlier recorder followed is on the tape, any other gets a row of its own, via snapshot. While a connection is open, what
// went over it so far is an ending that has no end, which the next one replaces.

const (
	// refreshEvery is how often open sockets are looked at. A connection of which nothing changed is told of every tellEvery, so
	// that the next recorder finds it in the last lookBack of the tape.
	refreshEvery = 5 * time.Minute
	tellEvery    = time.Hour
	lookBack     = tellEvery + 6*refreshEvery
	// latestWrite bounds how much later than a connect the segment may begin that has its row.
	latestWrite = time.Minute
	// mostTold bounds the connections of which is remembered what was told. Any others are told of every tellEvery.
	mostTold = 128 << 10
	// mostAdopted bounds the sockets that are kept from before the tape is open. Of more a look after that tells.
	mostAdopted = 64 << 10
)

// adopted is a socket that was open when the recorder began.
type adopted struct {
	bpf.OpenSocket
	row      *store.Followed // of an earlier recorder; nil: none
	followed bool            // the last recorder followed it already
}

// opens are what the recorder knows of open sockets. It belongs to the draining goroutine.
type opens struct {
	begun    []adopted                 // to be told when processes are known
	follows  map[bpf.ID]store.Followed // the row of what an earlier recorder wrote, by the attempt that the kernel tells
	told     map[bpf.ID]told           // by that attempt
	nextLook uint64                    // ns CLOCK_BOOTTIME
	looks    uint64
}

// told is what the tape was told of a connection, and when.
type told struct {
	sent, received uint64
	at             uint64 // ns CLOCK_BOOTTIME
}

// adopt begins to follow the sockets that are open, and finds the rows of those that an earlier recorder followed. The tape
// must not be open yet. Without them recording goes on all the same.
func adopt(ctx context.Context, capture *bpf.Capture, dir, bootID string, log *slog.Logger) []adopted {
	var (
		found   []adopted
		cookies []uint64
		known   = map[bpf.ID]struct{}{}
		more    int
	)
	err := capture.OpenSockets(true, func(s *bpf.OpenSocket) {
		old := capture.Taken() != nil && s.SoFar.Adopted() && s.SoFar.Attempt != s.Holder.ID()
		if _, ok := known[s.SoFar.Attempt]; ok || s.SoFar.Attempt != s.Holder.ID() && !old {
			return // another descriptor of it; or it connected meanwhile
		}
		if len(found) >= mostAdopted {
			more++
			return
		}
		known[s.SoFar.Attempt] = struct{}{}
		a := adopted{OpenSocket: *s, followed: old}
		a.Holder.Remote, a.Holder.Local = bytes.Clone(s.Holder.Remote), bytes.Clone(s.Holder.Local)
		found = append(found, a)
		if s.Holder.Cookie != 0 {
			cookies = append(cookies, s.Holder.Cookie)
		}
	})
	if err != nil {
		log.Warn("open sockets not read", "error", err)
	}
	if more > 0 {
		log.Warn("sockets that were open are not on the tape", "sockets", more)
	}
	if len(cookies) == 0 {
		return found
	}
	rows, err := store.FindFollowed(ctx, dir, bootID, cookies, lookBack)
	if err != nil {
		log.Warn("connections of the recorder before not found", "error", err)
	}
	for i := range found {
		if row, ok := rows[found[i].Holder.Cookie]; ok && found[i].Holder.Cookie != 0 {
			found[i].row = &row
		} else if id, ok := capture.Waits(found[i].Holder.Cookie); ok { // its record was left, and is to be read
			found[i].row = &store.Followed{Connect: id.BootTime, Outcome: store.Outcome{Established: store.Unmeasured, RTT: store.Unmeasured}}
		}
	}
	return found
}

// tellAdopted puts what was open at the start into the open batch.
func (r *recorder) tellAdopted(now uint64) {
	for i := range r.opens.begun {
		a := &r.opens.begun[i]
		if a.followed {
			if a.row != nil && a.row.Connect != a.SoFar.Attempt.BootTime {
				r.opens.follows[a.SoFar.Attempt] = *a.row
			}
			continue
		}
		if a.row == nil {
			r.tellFound(&a.OpenSocket, now)
			continue
		}
		r.opens.follows[a.SoFar.Attempt] = *a.row
		if r.tellOpen(&a.SoFar) {
			r.opens.told[a.SoFar.Attempt] = told{a.SoFar.Sent, a.SoFar.Received, now}
		}
	}
	r.opens.begun = nil
}

// tellFound makes a row of a socket that the tape does not tell of: as if its holder had connected it at the time of the look.
func (r *recorder) tellFound(s *bpf.OpenSocket, now uint64) {
	r.ledger.adopted++
	row := &r.row
	who := r.resolver.party(&s.Holder)
	if r.exclude(&s.Holder, who, 1) {
		r.fates.rowless.put(s.SoFar.Attempt, struct{}{})
		return
	}
	if !r.resolver.address(&s.Holder, who, row) {
		r.lumpFound(s, who)
		return
	}
	if s.SoFar.Attempt != s.Holder.ID() { // its row was removed with the segment
		r.opens.follows[s.SoFar.Attempt] = store.Followed{Connect: s.Holder.BootTime, Outcome: store.Outcome{Established: store.Unmeasured, RTT: store.Unmeasured}}
	}
	e := r.ending(&s.SoFar)
	row.Outcome, row.Shape = e.Outcome, r.fates.shape(row.Shape, e.Final)
	extra := r.resolver.need(who)
	extra.memory += fateBytes
	switch r.queue.add(row, who.share, extra, false) {
	case added:
		r.ledger.rows++
		r.opens.told[s.SoFar.Attempt] = told{s.SoFar.Sent, s.SoFar.Received, now}
	case refused:
		r.lumpFound(s, who)
	}
}

// lumpFound counts a socket for whose own row there is no room.
func (r *recorder) lumpFound(s *bpf.OpenSocket, who *party) {
	r.fates.rowless.put(s.SoFar.Attempt, struct{}{})
	r.lump(&s.Holder, who)
}

// look tells of the connections that are open what went over them so far, if it is time.
func (r *recorder) look(now uint64) error {
	if now < r.opens.nextLook {
		return nil
	}
	r.opens.nextLook = now + uint64(r.config.refreshEvery)
	r.opens.looks++
	before, kept := r.opens.told, r.oldestKept(now)
	r.opens.told = make(map[bpf.ID]told, len(before))
	err := r.src.OpenSockets(false, func(s *bpf.OpenSocket) { r.lookAt(s, before, kept, now) })
	if err != nil {
		return fmt.Errorf("read open sockets: %w", err)
	}
	return nil
}

// lookAt tells of one.
func (r *recorder) lookAt(s *bpf.OpenSocket, before map[bpf.ID]told, kept, now uint64) {
	o := &s.SoFar
	if _, again := r.opens.told[o.Attempt]; again || o.Kind != bpf.OutcomeOpen {
		return // another descriptor of it
	}
	if _, rowless := r.fates.rowless.get(o.Attempt); rowless {
		return
	}
	connect := o.Attempt.BootTime
	if f, ok := r.opens.follows[o.Attempt]; ok {
		connect = f.Connect
	}
	if connect < kept {
		r.tellFound(s, now)
		return
	}
	was, known := before[o.Attempt]
	due := known && (was.sent != o.Sent || was.received != o.Received || was.at+uint64(tellEvery) <= now)
	if !known { // a connection that is younger says enough by its row
		due = connect+uint64(r.config.refreshEvery) <= now && (len(before) < mostTold || r.opens.looks%uint64(tellEvery/refreshEvery) == 0)
	}
	switch {
	case due && r.tellOpen(o):
		if len(r.opens.told) < mostTold {
			r.opens.told[o.Attempt] = told{o.Sent, o.Received, now}
		}
	case known:
		r.opens.told[o.Attempt] = was
	}
}

// oldestKept returns before when connections have no row on the tape any more, ns CLOCK_BOOTTIME.
func (r *recorder) oldestKept(now uint64) uint64 {
	oldest := r.sink.OldestKept()
	if oldest.IsZero() {
		return 0
	}
	return now - min(now, uint64(max(0, time.Since(oldest)+latestWrite)))
}

// tellOpen puts into the open batch what a connection that is open came to so far. False: there is no room, or something that
// is newer waits.
func (r *recorder) tellOpen(o *bpf.Outcome) bool {
	if _, waits := r.fates.pending[o.Attempt]; waits {
		return false
	}
	if i, ok := r.fates.rows[o.Attempt]; ok {
		return r.queue.fate(i, func(row *store.Connection) { r.fates.give(row, o) })
	}
	if len(r.queue.open.Endings) >= mostEndings || r.queue.tight() {
		return false
	}
	r.queue.open.Endings = append(r.queue.open.Endings, r.ending(o))
	return true
}

// ending returns what the tape is told of a connection whose row is not in the open batch.
func (r *recorder) ending(o *bpf.Outcome) store.Ending {
	e := store.Ending{Connect: o.Attempt.BootTime, Cookie: o.Cookie, Final: finalOf(o), Outcome: r.fates.blank()}
	r.fates.tell(e.Outcome, o)
	f, ok := r.opens.follows[o.Attempt]
	if !ok {
		return e
	}
	if o.Kind == bpf.OutcomeClosed {
		delete(r.opens.follows, o.Attempt)
	}
	later := int64(o.Attempt.BootTime - f.Connect)
	e.Connect = f.Connect
	e.Outcome.Established, e.Outcome.RTT = f.Outcome.Established, f.Outcome.RTT
	if e.Outcome.Duration >= 0 {
		e.Outcome.Duration += later
	}
	if e.Outcome.SeenOpen > 0 {
		e.Outcome.SeenOpen += later
	}
	return e
}
