package recorder

import "github.com/conntape/conntape/store/segment"

// lookupLedger accounts for answers by DNS. What the kernel had in its hands is read, or lost:
//
//	lookup_seen = lookup_read + lookup_lost
//
// once all is drained. Of what was read, lookup_stored messages are counted in rows, lookup_bad could not be parsed, and for
// lookup_dropped there was no memory or no disk. A message by TCP may come in several pieces, and several in one.
type lookupLedger struct {
	received, stored uint64
	bad              uint64
	dropped          uint64
	late             uint64 // names that clients said after their connection's row was written
	refused          uint64 // names that clients said, for which there was no room, or whose row is that of several connects
	observed         uint64 // losses that a gap tells of
	ended            bool   // all was drained: what was sent and not received is lost
}

// unread returns how many answers were lost before they were read.
func (l *ledger) unreadLookups() uint64 {
	lost := l.kernel.AnswerLost
	if l.lookups.ended {
		lost += l.kernel.AnswerSent - min(l.lookups.received, l.kernel.AnswerSent)
	}
	return lost
}

// lostLookups returns how many were lost, read or not.
func (l *ledger) lostLookups() uint64 { return l.unreadLookups() + l.lookups.dropped + l.gone.lookups }

// countLookups adds the counters of answers to those of connects.
func (l *ledger) countLookups(c segment.Counters) {
	c["lookup_seen"] = l.kernel.AnswerSeen
	c["lookup_read"] = l.lookups.received
	c["lookup_lost"] = l.unreadLookups()
	c["lookup_bad"] = l.lookups.bad
	c["lookup_dropped"] = l.lookups.dropped + l.gone.lookups
	c["lookup_late"], c["lookup_refused"] = l.lookups.late, l.lookups.refused
	c["lookup_stored"] = l.lookups.stored - min(l.lookups.stored, l.gone.lookups)
}
