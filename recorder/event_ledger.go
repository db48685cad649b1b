package recorder

import "github.com/conntape/conntape/store/segment"

// eventLedger accounts for each event that the kernel told beside connects: it is counted in a row, or lost. So
//
//	event_seen = event_stored + event_lost
//
// holds once all is drained.
type eventLedger struct {
	received, stored uint64
	found            uint64 // of those, what was so when recording began
	dropped          uint64 // there was no memory
	inherited        uint64 // of those, events that the last recorder did not write
	observed         uint64 // losses that a gap tells of
	ended            bool   // all was drained: what was sent and not received is lost
}

// lostEvents returns how many were lost.
func (l *ledger) lostEvents() uint64 {
	lost := l.kernel.EventLost + l.events.dropped + l.gone.events
	if l.events.ended {
		lost += l.kernel.EventSent + l.events.found - min(l.events.received, l.kernel.EventSent+l.events.found)
	}
	return lost
}

// countEvents adds the counters of events to those of connects.
func (l *ledger) countEvents(c segment.Counters) {
	c["event_seen"] = l.kernel.EventSeen + l.events.found
	c["event_found"] = l.events.found
	c["event_stored"] = l.events.stored - min(l.events.stored, l.gone.events)
	c["event_lost"] = l.lostEvents()
}
