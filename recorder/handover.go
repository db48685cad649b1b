package recorder

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// With Options.Pin the programs stay in the kernel when a recorder ends, and what happens until the next one waits in the rings.
// Each batch has the number of a handover, which says how far the recorder had come with each record and count of the kernel. The
// next recorder goes on from the last one that is on the tape, so that what was read and not written comes again, and nothing
// twice. What it takes over counts for it, not for the one before.

// heritage is what a recorder leaves to the next. *bpf.Capture is one.
type heritage interface {
	// Marks returns how far each ring was read.
	Marks() (connects, outcomes, events bpf.Mark)
	// SendsTold returns the generation of counts of sends up to which all are told; due: but those of the last interval.
	SendsTold(due bool) (uint32, error)
	// Handover keeps what is left, and returns a number for the tape, 0 if it cannot be kept any more.
	Handover(*bpf.Handover) (uint64, error)
	// Written tells that the tape has the number.
	Written(*bpf.Handover)
}

// firstHandover has a recorder that begins keep what it has taken over, and returns what the tape is to say of it.
func firstHandover(capture *bpf.Capture, before, now uint64) (h store.Handover, err error) {
	if !capture.Pinned() {
		return h, nil
	}
	first := bpf.Handover{Time: now}
	first.Connects, first.Outcomes, first.Events = capture.Marks()
	if first.Sends, err = capture.SendsTold(false); err != nil {
		return h, err
	}
	if t := capture.Taken(); t != nil {
		h.Before, h.Lost = before, t.Lost
		connects := first.Connects
		first = t.Handover
		first.Connects, first.Counters = connects, bpf.Counters{}
	}
	h.Next, err = capture.Handover(&first)
	return h, err
}

// takeOver goes on with what the last recorder left.
func (r *recorder) takeOver(t *bpf.Taken) {
	if t == nil {
		return
	}
	r.predecessor = t.Recorder
	r.ledger.seenAt = min(r.ledger.seenAt, t.Time)
	r.ledger.loseUnreadable(t, r.boot())
	r.ledger.outcomes.dropped += t.Outcomes
	r.ledger.events.dropped, r.ledger.events.inherited = t.Events, t.Events
	r.ledger.inherited = uint64(len(t.Hanging))
	for _, h := range t.Hanging {
		r.flight.written[h.ID] = &flying{inherited: !h.Excluded}
	}
	r.sends.active = sendsIdle
	if t.SendsDue {
		r.sends.due = r.ledger.seenAt
	}
}

// loseUnreadable counts what replaced programs left that no decoder here can read.
func (l *ledger) loseUnreadable(t *bpf.Taken, now uint64) {
	if t.UnreadBytes == 0 {
		return
	}
	l.unread += t.Unread
	l.observed[causeUnread] += t.Unread
	l.gaps.tell(store.Gap{
		From: t.Time, To: now, Cause: causeUnread, Lost: t.Unread,
		Detail: fmt.Sprintf("the programs of another version left %d bytes in their rings that this one cannot read", t.UnreadBytes),
	})
}

// doubted tells that somebody was at what the last recorder had left.
func (r *recorder) doubted(now uint64, why string) {
	if why == "" {
		return
	}
	r.watch.proven = now
	r.hookGone(now, "the programs that the last recorder left are not taken over: "+why)
}

// isPredecessors tells whether a connect is one by which the last recorder probed its hooks.
func (r *recorder) isPredecessors(c *bpf.Connect) bool {
	return r.predecessor != bpf.ProcessKey{} && c.Key == r.predecessor && bpf.IsProbe(c)
}

// handOver adds the number of what the next recorder has to know to the counters of a batch. nil: nothing is left to it.
func (r *recorder) handOver(c segment.Counters, now uint64) *bpf.Handover {
	if r.heritage == nil {
		return nil
	}
	h := &bpf.Handover{Time: now, Counters: r.ledger.kernel}
	var outcomes bpf.Mark
	h.Connects, outcomes, h.Events = r.heritage.Marks()
	if h.Outcomes = outcomes; r.fates.waits() {
		h.Outcomes = r.fates.mark
	}
	h.Counters.Sent = r.ledger.received + r.ledger.stolen
	h.Counters.SendCounted = r.sends.reported
	h.Counters.AnswerSent = r.ledger.lookups.received
	h.Unkept = r.ledger.events.received - min(r.ledger.events.received, r.ledger.events.stored+r.ledger.events.dropped-r.ledger.events.inherited)
	for id, f := range r.flight.written {
		h.Hanging = append(h.Hanging, bpf.Hung{ID: id, Excluded: f.row == (writtenRow{}) && !f.inherited})
	}
	var err error
	if h.Sends, err = r.heritage.SendsTold(r.sends.due != 0); err != nil {
		r.log.Warn("sends not handed over", "error", err)
	}
	number, err := r.heritage.Handover(h)
	if err != nil {
		r.log.Error("the next recorder will not know where to go on", "error", err)
	}
	c[segment.HandoverCounter] = number
	if number == 0 {
		return nil
	}
	return h
}

// leave hands over the last batch, and leaves to the next recorder what comes then.
func (r *recorder) leave() error {
	r.opens.nextLook = 0 // it may be over by then
	errs := []error{r.look(r.boot()), r.readOut()}
	now := r.boot()
	_, err := r.drainProcesses()
	errs = append(errs, err, r.drainEvents(now, forever), r.drainAnswers(lastAnswers, forever), r.drainOutcomes(now, forever))
	r.settleAnswers(math.MaxUint64)
	r.joinErrors(now, true)
	r.endings(now, false)
	r.expireHellos(now, true)
	r.writeFolds(now, true)
	return errors.Join(append(errs, r.push(now))...)
}

// updateInherited gives the row of an attempt that an earlier recorder wrote what connect returned.
func (r *recorder) updateInherited(c *bpf.Connect) {
	who := r.resolver.party(c)
	row := r.row
	if !r.resolver.address(c, who, &row) {
		return
	}
	r.update(c, rowOf(&row))
}

// lastHandover reads what the last recorder of this boot left on the tape, if this one is to go on with it.
func lastHandover(ctx context.Context, o *Options, bootID string) uint64 {
	if o.Pin == "" {
		return 0
	}
	number, err := store.LastHandover(ctx, o.Dir, bootID)
	if err != nil { // the tape is damaged: what is wrong shows when it is opened
		o.Logger.Warn("the last recorder's handover is not known", "error", err)
		return 0
	}
	return number
}

// tapeName names a tape by its place, however that was written.
func tapeName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil { // the tape is still to be made
		return filepath.Join(real, filepath.Base(dir))
	}
	return dir
}

// Unpin removes what a recorder of a tape left in the kernel (bpf.Unpin).
func Unpin(pin, dir string) error { return bpf.Unpin(pin, tapeName(dir)) }

// DefaultPin is where programs and rings are kept for the next recorder.
const DefaultPin = bpf.DefaultPin

// ErrPinned means that another recorder uses those of a tape.
var ErrPinned = bpf.ErrPinned
