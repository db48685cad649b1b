package recorder

import "github.com/conntape/conntape/store/segment"

// outcomeLedger accounts for each outcome that the kernel told: it is stored, or of a connect that is counted in the row of
// another, or lost. So
//
//	outcome_seen = outcome_stored + outcome_coalesced + outcome_lost
//
// holds once all is drained.
type outcomeLedger struct {
	received, stored, coalesced uint64
	dropped                     uint64 // there was no memory
	observed                    uint64 // losses that a gap tells of
	ended                       bool   // all was drained: what was sent and not received is lost
}

// lostOutcomes returns how many were lost.
func (l *ledger) lostOutcomes() uint64 {
	lost := l.kernel.OutcomeLost + l.outcomes.dropped + l.gone.outcomes
	if l.outcomes.ended {
		lost += l.kernel.OutcomeSent - min(l.outcomes.received, l.kernel.OutcomeSent)
	}
	return lost
}

// countOutcomes adds the counters of outcomes to those of connects.
func (l *ledger) countOutcomes(c segment.Counters) {
	o := &l.outcomes
	c["outcome_seen"] = l.kernel.OutcomeSeen
	c["outcome_stored"] = o.stored - min(o.stored, l.gone.outcomes)
	c["outcome_coalesced"] = o.coalesced
	c["outcome_lost"] = l.lostOutcomes()
}
