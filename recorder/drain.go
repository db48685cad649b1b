package recorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/conntape/conntape/bpf"
)

const (
	// pollActive and pollIdle bound how long a record may lie in a ring that is not filling up: below the fill level
	// nobody wakes us. A batch is due by the time of its first attempt, so that waiting here makes nothing later.
	pollActive = 200 * time.Millisecond
	pollIdle   = time.Second
	// pollBusy is how soon to look again whether the writer is free for a batch that is due.
	pollBusy = 20 * time.Millisecond
	// idleAfter is how long the ring has to stay empty before pollIdle will do. After config.sleepAfter nobody polls.
	idleAfter = uint64(3 * time.Second)
	// busyProcesses is the number of process records between two looks from which on the host is not idle, whoever
	// connects or not: a fifteenth of what their ring holds.
	busyProcesses = 500
	// passEvery is the number of records after which housekeeping is looked at even if the ring is never empty.
	passEvery = 4096
	// followEvery is the number of connects after which is read what became of them. It is small, so that their rows and the
	// maps of what is expected are still in the processor's caches.
	followEvery = 64
	// endsWithin bounds how long a program that was detached may still be about to send.
	endsWithin = 300 * time.Millisecond
)

// drain reads records until ctx ends or the source does. Nothing here waits for the disk.
func (r *recorder) drain(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.src.Interrupt)
	defer stop()
	deadline := time.Now() // at which ctx may have ended already
	for n := 1; ; n++ {
		err := r.src.ReadConnect(deadline, &r.rec)
		switch {
		case err == nil:
			woken := r.drowsy
			if woken { // what nobody looked at meanwhile comes first: the user may be new
				r.drowsy = false
				r.theft.inHand = 1
				if err := r.tick(r.boot()); err != nil {
					return err
				}
				r.theft.inHand = 0
			}
			r.take(&r.rec)
			if n%followEvery == 0 {
				if err := r.follow(r.rec.BootTime); err != nil {
					return err
				}
			}
			if !woken && n%passEvery != 0 {
				continue
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.horizon, r.overlap = max(r.horizon, r.passed), false // the ring was empty after that
			r.findTheft()
		default:
			return fmt.Errorf("read connect ring: %w", err)
		}
		if err := r.pass(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if r.theft.sent != 0 { // the ring is read to its end at once
			deadline = time.Now()
			continue
		}
		if deadline, err = r.pollUntil(r.passed); err != nil {
			return err
		}
	}
}

// follow reads what happened to sockets up to a time: in the order of all rings, though there may be many records in each.
func (r *recorder) follow(until uint64) error {
	now := r.boot()
	if err := r.drainEvents(now, until); err != nil {
		return err
	}
	return r.drainOutcomes(now, until)
}

// take puts one record into the queue.
func (r *recorder) take(c *bpf.Connect) {
	r.ledger.received++
	if !r.overlap {
		r.horizon = max(r.horizon, c.BootTime)
	}
	if r.isPredecessors(c) {
		r.ledger.own++
		return
	}
	if len(r.watch.out)+len(r.watch.unreturned) > 0 && r.watch.back(c) {
		r.ledger.own++
		if len(r.watch.out) == 0 {
			r.alive()
		}
		return
	}
	if len(r.flight.written) > 0 {
		if f := r.flight.written[c.ID()]; f != nil {
			r.landed(c, f)
			return
		}
	}
	row := &r.row
	r.nameBefore(c)
	who := r.resolver.party(c)
	r.lookups.ask(c, who)
	if c.Via.IsSend() {
		r.sends.tell(c, who.task.Process)
	}
	if r.exclude(c, who, 1) {
		return
	}
	if who.share.credit < rowBytes && c.Via != bpf.ViaIOUring && r.queue.full(who.share) && !r.resolver.knows(c) {
		r.lump(c, who) // a flood of new addresses is not to fill the caches
		return
	}
	named := r.resolver.address(c, who, row)
	if c.Flags&bpf.Reissue != 0 {
		remote := row.Remote
		if !named {
			remote = r.resolver.nowhere
		}
		if first, ok := r.reissues.first(c, remote); ok {
			r.ledger.folded++
			if first.row != (writtenRow{}) {
				r.update(c, first.row)
			}
			return
		}
	}
	if !named {
		r.table.names.refused++
		r.lump(c, who)
		return
	}
	extra, outcomes := r.resolver.need(who), uint64(0)
	followed := hasOutcome(c)
	if followed {
		extra.memory += fateBytes
		outcomes = r.expect(c, row)
	}
	in := r.queue.add(row, who.share, extra, true)
	if followed {
		r.remember(c, row, outcomes, in)
	}
	switch in {
	case added:
		r.ledger.rows++
		if followed {
			r.awaitHello(c, who)
		}
		r.followErrors(c)
		r.reissues.remember(c, row, true)
	case counted:
		r.ledger.coalesced++
		r.reissues.remember(c, row, false)
	case refused:
		r.lump(c, who)
	}
}

// lump counts an attempt for whose own row there is no memory.
func (r *recorder) lump(c *bpf.Connect, who *party) {
	r.resolver.lump(c, who, &r.row)
	r.renounce(c)
	r.reissues.remember(c, &r.row, false)
	r.queueLump(c, who, 1)
}

// queueLump puts the row without addresses of n attempts into the queue.
func (r *recorder) queueLump(c *bpf.Connect, who *party, n uint64) {
	switch r.queue.lump(&r.row, who.share, r.resolver.need(who)) {
	case added:
		r.ledger.rows++
		r.ledger.coalesced += n - 1
	case counted:
		r.ledger.coalesced += n
	case refused:
		cause := causeMemory
		switch {
		case r.queue.tape.over(who.share):
			cause = causeShare
		case r.writer.failing.Load():
			cause = causeStore
		}
		r.ledger.refuse(cause, c, who.owner, n)
	}
}

// pass does what is due beside reading connects.
func (r *recorder) pass() error {
	now := r.boot()
	if r.ledger.received != r.receivedBefore {
		r.receivedBefore, r.received = r.ledger.received, now
	}
	r.passed = now
	n, err := r.drainProcesses()
	if err != nil {
		return err
	}
	if err := r.drainEvents(now, forever); err != nil {
		return err
	}
	if err := r.drainAnswers(mostAnswers, forever); err != nil {
		return err
	}
	r.settleAnswers(r.horizon)
	r.expireHellos(now, false)
	if err := r.drainOutcomes(now, forever); err != nil {
		return err
	}
	if n >= busyProcesses {
		r.received = now
	}
	r.table.forget(r.horizon)
	r.ledger.argvCut, r.ledger.names = r.table.cut, *r.table.names
	if now >= r.nextTick {
		if err := r.tick(now); err != nil {
			return err
		}
	}
	if err := r.maybePush(now); err != nil {
		return err
	}
	r.publish()
	return r.err
}

// tick is what is due once a second, and after a sleep.
func (r *recorder) tick(now uint64) error {
	r.nextTick = now + uint64(r.config.tick)
	r.queue.tape.age(now)
	r.inbound.expireFolds(now)
	r.lookups.folds.expireFolds(now)
	r.lookups.names.expire(r.horizon)
	r.table.names.fade(now)
	r.retune()
	r.ledger.looks++
	r.ledger.filled += uint64(r.src.Unread())
	counters, err := r.src.Counters()
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	if counters.Seen != r.ledger.kernel.Seen {
		r.received = now
	}
	if counters.ProcessLost != r.ledger.kernel.ProcessLost {
		r.relearnAlive = 2 // two walks tell which processes are gone
	}
	if err := r.observe(now, counters); err != nil {
		return err
	}
	if err := r.suspectTheft(now, counters); err != nil {
		return err
	}
	if r.relearnAlive > 0 && r.mayWalk(now) {
		r.relearnAlive--
		if err := r.walk(); err != nil {
			return err
		}
	}
	if err := r.lookAfterHooks(now, counters); err != nil {
		return err
	}
	if counters.Seen != counters.Sent+counters.LostRing || len(r.flight.written) > 0 {
		if err := r.sweep(now, uint64(r.config.flightAge)); err != nil {
			return err
		}
		r.settle(r.horizon)
	}
	if err := r.look(now); err != nil {
		return err
	}
	r.lookForPacketSockets(now)
	if err := r.countSends(now, counters.SendCounted); err != nil {
		return err
	}
	changed, err := r.table.users.refresh()
	if err != nil {
		r.log.Warn("users not read", "error", err)
	}
	if changed {
		r.resolver.relearn()
	}
	return nil
}

// observe accounts for what the kernel counted, and for who lost it.
func (r *recorder) observe(now uint64, counters bpf.Counters) error {
	var err error
	if counters.LostRing != r.ledger.kernel.LostRing {
		err = r.src.Losers(r.ledger.loseInRing)
	}
	r.ledger.observe(now, counters)
	if err != nil {
		return fmt.Errorf("read who lost: %w", err)
	}
	return nil
}

// drainProcesses applies all that is in the process ring, and returns how much that was.
func (r *recorder) drainProcesses() (n int, err error) {
	for ; ; n++ {
		ok, err := r.src.ReadProcess(&r.process)
		if err != nil {
			return n, fmt.Errorf("read process ring: %w", err)
		}
		if !ok {
			return n, nil
		}
		r.ledger.described++
		r.table.apply(&r.process)
	}
}

// maybePush hands the open batch to the writer when it is due. While the writer is busy only a full one is handed over:
// the others can as well grow, and while memory is tight they have to, so that attempts are counted together.
func (r *recorder) maybePush(now uint64) error {
	if r.fates.waits() {
		r.endings(now, false)
	}
	r.writeFolds(now, false)
	rows := len(r.queue.open.Connections) + len(r.queue.open.Endings) + len(r.queue.open.Namings) + len(r.queue.open.Sockets)
	if rows > 0 && r.opened == 0 {
		r.opened = r.firstRead(now)
	}
	idle := r.queue.idle()
	due := rows > 0 && now >= r.opened+uint64(r.config.batchAge)
	full := rows >= r.config.batchRows
	quiet := now - r.pushed
	heartbeat := quiet >= uint64(r.config.heartbeat)
	news := quiet >= uint64(r.config.batchAge) && (r.ledger.gaps.pending() || r.anchors.pending() || r.table.hashes.collect())
	if idle && (due || full || heartbeat || news) || full && !r.queue.tight() {
		return r.push(now)
	}
	return nil
}

// firstRead returns the time from which the age of the open batch counts: that of its first attempt, unless that is
// older than the last look at the ring because it returned late.
func (r *recorder) firstRead(now uint64) uint64 {
	if len(r.queue.open.Connections) == 0 {
		return now
	}
	return min(now, max(r.queue.open.Connections[0].BootTime, now-min(now, uint64(pollIdle))))
}

// push completes the open batch with what else the tape must know, and hands it over.
func (r *recorder) push(now uint64) error {
	counters, err := r.src.Counters()
	if err != nil {
		counters = r.ledger.kernel
		err = fmt.Errorf("read counters: %w", err)
	}
	err = errors.Join(err, r.observe(now, counters))
	carried := r.writer.takeCarried()
	b := r.queue.open
	b.Gaps = append(carried.Gaps, r.ledger.gaps.take()...)
	b.Anchors = append(carried.Anchors, r.anchors.take()...)
	files, scripts := r.table.hashes.take()
	b.Files, b.Scripts = append(carried.Files, files...), append(carried.Scripts, scripts...)
	r.ledger.hashes = r.table.hashes.counts()
	b.Counters = r.ledger.counters()
	b.handover = r.handOver(b.Counters, now)
	b.Now = r.horizon
	b.shares = r.queue.tape.keep(false)
	r.queue.push()
	clear(r.fates.rows)
	clear(r.lookups.hellos.rows)
	r.opened, r.pushed = 0, now
	return err
}
