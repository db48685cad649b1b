package bpf

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// late tells whether the record read last came when what was left had been compared with what the new programs saw.
func (l *left) late(kind int) bool { return (*l.from.rings()[kind]).next.Position > l.ends[kind] }

// over tells whether all is read.
func (l *left) over() bool { return l.done == [leftKinds]bool{true, true, true, true, true, true} }

// next reads a record of a ring, nil: there is none left.
func (l *left) next(kind int) ([]byte, error) {
	if l.done[kind] {
		return nil, nil
	}
	b, err := (*l.from.rings()[kind]).read(nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.done[kind] = true
		return nil, nil
	}
	return b, err
}

// readLeft finds the next record of a kind in what is left; decode tells whether it is wanted.
func (c *Capture) readLeft(kind int, decode func(*left, []byte) (bool, error)) (bool, error) {
	for _, l := range c.left {
		for {
			b, err := l.next(kind)
			if err != nil {
				return false, fmt.Errorf("read what the last programs left: %w", err)
			}
			if b == nil {
				break
			}
			late := l.late(kind)
			if late && timeOf(b) >= l.overtaken && kind != leftProcesses && kind != leftOutcomes {
				continue // the new programs have it
			}
			ok, err := decode(l, b)
			if ok && late {
				c.past.add(kind)
			}
			if ok || err != nil {
				return ok, err
			}
		}
	}
	return false, nil
}

// add counts a record of a kind.
func (n *Counters) add(kind int) {
	seen := [...]*uint64{&n.Seen, &n.ProcessSeen, &n.OutcomeSeen, &n.EventSeen, &n.AnswerSeen}
	sent := [...]*uint64{&n.Sent, &n.ProcessSent, &n.OutcomeSent, &n.EventSent, &n.AnswerSent}
	*seen[kind]++
	*sent[kind]++
}

// readLeftConnect likewise, and then those attempts that had not returned.
func (c *Capture) readLeftConnect(rec *Connect) (bool, error) {
	ok, err := c.readLeft(leftConnects, func(l *left, b []byte) (bool, error) {
		err := rec.decode(b)
		_, twin := l.twins[rec.ID()]
		return !twin, err
	})
	if ok || err != nil {
		return ok, err
	}
	for _, l := range c.left {
		if n := len(l.flying); n > 0 {
			*rec = l.flying[n-1].Connect
			l.flying = l.flying[:n-1]
			return true, nil
		}
	}
	return false, nil
}

// leftSend calls fn with the counts of sends that the tape does not have.
func (c *Capture) leftSends(fn func(*SendCount)) error {
	for _, l := range c.left {
		if l.done[leftSends] {
			continue
		}
		l.done[leftSends] = true
		if err := l.from.sendsSince(l.state.Sends, fn); err != nil {
			return err
		}
		l.state.Sends = sendsAllTold
	}
	return nil
}

// unreadLeft returns the bytes of connects that are left, at least.
func (c *Capture) unreadLeft() (n int) {
	for _, l := range c.left {
		if !l.done[leftConnects] {
			n += l.from.connects.unread()
		}
		n += len(l.flying) * LeastRecord
	}
	return n
}

// keep keeps a handover for a recorder that reads on what is left. past is what all of these counted.
func (l *left) keep(h *Handover, past *Counters) (uint64, error) {
	for mark, ring := range map[*Mark]*ring{&h.Connects: l.from.connects, &h.Outcomes: l.from.outcomes, &h.Events: l.from.events} {
		if mark.of != ring { // it is read to the end
			*mark = ring.mark()
		}
	}
	if h.Counters != (Counters{}) { // as of a batch, which tells all that was lost
		own := h.Counters.since(past)
		l.state.Heir, l.state.Counters = &own, l.final
	}
	h.Counters, h.Heir, h.Sends, h.Touched = l.state.Counters, l.state.Heir, l.state.Sends, l.state.Touched
	return l.pins.putState(h)
}

// heldBy returns what of the sets a handover is of: nil, all that was left is read and in it.
func (c *Capture) heldBy(h *Handover) *left {
	for _, l := range c.left {
		r := l.from
		if !l.over() || h.Connects.of == r.connects || h.Outcomes.of == r.outcomes || h.Events.of == r.events {
			return l
		}
	}
	return nil
}

// Waits returns the attempt of a socket that was connected before these programs saw it, and whose row is still to come.
func (c *Capture) Waits(cookie uint64) (ID, bool) {
	for _, l := range slices.Backward(c.left) {
		if id, ok := l.waiting[cookie]; ok && cookie != 0 {
			return id, true
		}
	}
	return ID{}, false
}

// Overlap tells whether what replaced programs left is still read: records may be older than those before.
func (c *Capture) Overlap() bool { return len(c.left) > 0 }
