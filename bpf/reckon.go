package bpf

import (
	"fmt"
	"maps"
	"slices"
)

// reckon finds out what of a set is to be told, and counts it.
func (c *Capture) reckon(at int) error {
	l, later := c.left[at], c.successors(at)
	l.overtaken = later[0].attachedAt
	known := l.knownHanging() // before anything is read of what returned since
	c.taken.Lost += l.from.connects.readFrom(l.state.Connects)
	c.taken.Outcomes += l.from.outcomes.readFrom(l.state.Outcomes)
	c.taken.Events += l.from.events.readFrom(l.state.Events) + l.state.Unkept
	if err := c.countUnreadable(l); err != nil {
		return err
	}
	come, err := c.matchConnects(l, later, known)
	if err != nil {
		return fmt.Errorf("compare connects: %w", err)
	}
	if err := l.matchEvents(later); err != nil {
		return fmt.Errorf("compare events: %w", err)
	}
	if err := l.matchAnswers(later); err != nil {
		return fmt.Errorf("compare answers: %w", err)
	}
	if err := l.countRest(); err != nil {
		return err
	}
	if err := l.countLost(); err != nil {
		return err
	}
	l.counts.seenIsSum(l.hung(come))
	return nil
}

// matchConnects finds the connects that later programs have, too, and returns those that are to come from these.
func (c *Capture) matchConnects(l *left, later []successor, known map[ID]struct{}) (come map[ID]struct{}, err error) {
	come = map[ID]struct{}{}
	if l.done[leftConnects] {
		return come, nil
	}
	var (
		mine []sight
		rec  Connect
	)
	err = l.walk(leftConnects, func(b []byte) error {
		err := rec.decode(b)
		if _, twin := l.twins[rec.ID()]; err != nil || twin {
			return err
		}
		come[rec.ID()] = struct{}{}
		l.waiting[rec.Cookie] = rec.ID()
		if !rec.Via.IsSend() { // of those these have all until they were detached
			mine = append(mine, l.from.sightOf(&rec, false))
		}
		return nil
	})
	if err == nil {
		err = l.readFlying()
	}
	if err != nil {
		return nil, err
	}
	for i := range l.flying {
		f := &l.flying[i].Connect
		f.Flags |= ReturnLost
		mine = append(mine, l.from.sightOf(f, false))
	}
	for _, s := range later {
		if err := l.findTwins(mine, s); err != nil {
			return nil, err
		}
	}
	for id := range l.twins {
		delete(come, id)
	}
	l.flying = slices.DeleteFunc(l.flying, func(f flyingConnect) bool {
		_, twin := l.twins[f.ID()]
		_, has := known[f.ID()]
		return twin || has
	})
	for i := range l.flying {
		f := &l.flying[i].Connect
		c.hung[f.Tid] = f.Cookie
		l.waiting[f.Cookie] = f.ID()
	}
	l.counts.Sent = uint64(len(come) + len(l.flying))
	return come, nil
}

// A successor are programs that were attached later, and their connects that are left out.
type successor struct {
	*Capture
	out map[ID]struct{}
}

// successors are those of what is left at a place, as far as they can be read.
func (c *Capture) successors(at int) (later []successor) {
	for _, l := range c.left[at+1:] {
		if !l.readable["connects"] || !l.readable["in_flight"] || !l.readable["events"] || !l.readable["dns_answers"] {
			continue
		}
		later = append(later, successor{l.from, l.twins})
	}
	return append(later, successor{c, c.skipped})
}

// findTwins compares connects with those of one successor.
func (l *left) findTwins(mine []sight, s successor) error {
	all := slices.Clone(mine)
	var rec Connect
	err := walkRing(s.collection.Maps["connects"], func(b []byte) error {
		err := rec.decode(b)
		if err == nil && !rec.Via.IsSend() {
			all = append(all, s.sightOf(&rec, true))
		}
		return err
	})
	if err == nil {
		err = s.InFlight(func(r *Connect) { all = append(all, s.sightOf(r, true)) })
	}
	if err != nil {
		return err
	}
	old, poor := twinsOf(all, newComeFirst(l.from.backend, s.backend), s.attachedAt)
	maps.Copy(l.twins, old)
	maps.Copy(s.out, poor)
	return nil
}

// readFlying reads the attempts that had not returned when their programs were detached.
func (l *left) readFlying() error {
	if !l.readable["in_flight"] {
		return nil
	}
	return l.from.InFlight(func(r *Connect) {
		f := flyingConnect{Connect: *r}
		f.bytes = slices.Concat(r.Remote, r.Local, r.Requested)
		n, m := len(r.Remote), len(r.Remote)+len(r.Local)
		f.Remote, f.Local, f.Requested = f.bytes[:n:n], f.bytes[n:m:m], f.bytes[m:]
		l.flying = append(l.flying, f)
	})
}

// matchEvents finds the events that are in both: records that differ in nothing but the time, and in that by little.
func (l *left) matchEvents(later []successor) error {
	if l.done[leftEvents] {
		return nil
	}
	var rec Connect
	near, err := nearby(later, "events")
	if err != nil {
		return err
	}
	return l.walk(leftEvents, func(b []byte) error {
		if err := rec.decode(b); err != nil {
			return err
		}
		if near.take(b) {
			l.twins[rec.ID()] = struct{}{}
		} else {
			l.counts.EventSent++
		}
		return nil
	})
}

// matchAnswers likewise.
func (l *left) matchAnswers(later []successor) error {
	l.twinAnswers = map[uint64]struct{}{}
	if l.done[leftAnswers] {
		return nil
	}
	near, err := nearby(later, "dns_answers")
	if err != nil {
		return err
	}
	var a Answer
	return l.walk(leftAnswers, func(b []byte) error {
		if err := a.decode(b); err != nil {
			return err
		}
		if near.take(b) {
			l.twinAnswers[a.BootTime] = struct{}{}
		} else {
			l.counts.AnswerSent++
		}
		return nil
	})
}

// countRest counts outcomes and records of processes. Those of a process are told twice where both saw it: that changes nothing.
func (l *left) countRest() error {
	if !l.done[leftProcesses] {
		err := l.walk(leftProcesses, func([]byte) error { l.counts.ProcessSent++; return nil })
		if err != nil {
			return fmt.Errorf("count processes: %w", err)
		}
	}
	if l.done[leftOutcomes] {
		return nil
	}
	var o Outcome
	err := l.walk(leftOutcomes, func(b []byte) error {
		err := o.decode(b)
		if !l.isTwin(&o) {
			l.counts.OutcomeSent++
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("count outcomes: %w", err)
	}
	return nil
}

// isTwin tells whether an outcome is of an attempt, or of an accept, that the new programs have.
func (l *left) isTwin(o *Outcome) bool {
	_, twin := l.twins[o.Attempt]
	return twin
}

// countUnreadable counts as lost what has another layout.
func (c *Capture) countUnreadable(l *left) error {
	for i, name := range ringNames() {
		if l.readable[name] {
			continue
		}
		r := *l.from.rings()[i]
		bytes := uint64(r.unread())
		records, err := r.skip()
		if err != nil {
			return err
		}
		l.done[i] = true
		c.taken.UnreadBytes += bytes
		switch i {
		case leftConnects:
			c.taken.Unread += records
			l.counts.Seen += records
		case leftProcesses:
			l.counts.ProcessLost += records
			l.counts.ProcessSeen += records
		case leftOutcomes:
			c.taken.Outcomes += records
			l.counts.OutcomeSent += records
		case leftEvents:
			c.taken.Events += records
			l.counts.EventSent += records
		case leftAnswers:
			l.counts.AnswerLost += records
		}
	}
	if !l.readable["sends"] {
		l.done[leftSends] = true
	}
	return nil
}

// countLost adds what the old programs could not send since the tape was told.
func (l *left) countLost() error {
	if !l.canCount() {
		return nil
	}
	n, err := l.from.Counters()
	if err != nil {
		return err
	}
	l.final = n
	n.Missed = min(n.Missed, l.missed)
	n = n.since(&l.state.Counters)
	k := &l.counts
	k.LostRing, k.Missed, k.MissedReturn = n.LostRing, n.Missed, n.MissedReturn
	k.NotAttempted, k.InFlightFull, k.SendCounted = n.NotAttempted, n.InFlightFull, n.SendCounted
	k.ProcessLost += n.ProcessLost
	k.OutcomeLost, k.EventLost = n.OutcomeLost, n.EventLost
	k.AnswerLost += n.AnswerLost
	return nil
}

// seenIsSum has what was seen be the sum of what was sent and lost; hung are attempts that have rows and do not come again.
func (n *Counters) seenIsSum(hung uint64) {
	n.Seen += n.Sent + n.LostRing + hung
	n.ProcessSeen = n.ProcessSent + n.ProcessLost
	n.OutcomeSeen = n.OutcomeSent + n.OutcomeLost
	n.EventSeen = n.EventSent + n.EventLost
	n.AnswerSeen = n.AnswerSent + n.AnswerLost
}

// unread returns what counters begin with where nothing was read yet of what was sent.
func (n Counters) unread() Counters {
	n.Sent, n.OutcomeSent, n.EventSent, n.AnswerSent, n.ProcessSent, n.SendCounted = 0, 0, 0, 0, 0, 0
	n.Seen = 0
	n.seenIsSum(0)
	return n
}

// hung counts those of the handover that are not among the attempts to come.
func (l *left) hung(come map[ID]struct{}) (n uint64) {
	for _, h := range l.state.Hanging {
		if _, ok := come[h.ID]; !ok {
			n++
		}
	}
	return n
}

// knownHanging are the attempts that have rows.
func (l *left) knownHanging() map[ID]struct{} {
	known := make(map[ID]struct{}, len(l.state.Hanging))
	for _, h := range l.state.Hanging {
		known[h.ID] = struct{}{}
	}
	return known
}
