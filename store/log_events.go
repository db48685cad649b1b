package store

import (
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapelog"
)

// Listen logs an event. It waits for the disk when a segment begins, is sealed or will be removed, and for holds and the
// end. Other events wait for the next of these, or are written in the background.
func (k *LogKeeper) Listen(e Event) {
	if k.take(e) {
		k.flush()
	}
}

// take queues the leaves of an event. now reports whether they must be on the disk before the tape continues.
func (k *LogKeeper) take(e Event) (now bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch e := e.(type) {
	case SegmentStarted:
		k.tape = e.TapeID
		k.begin()
		if k.active.Segment == e.Previous && e.Previous != 0 {
			k.putCheckpoint() // the last state before sealing, which may take a while
		}
		k.putGaps()
		k.put(tapelog.Leaf{Kind: tapelog.KindSegment, Segment: e.Segment, Previous: e.Previous, Cause: e.Reason, BootID: e.BootID})
		k.active = tapelog.Leaf{Segment: e.Segment, Seen: k.active.Seen, Stored: k.active.Stored, Coalesced: k.active.Coalesced, Lost: k.active.Lost}
		return true
	case RunStarted:
		k.tape = e.TapeID
		k.begin()
		k.active.Segment = e.Segment
		k.later()
	case BatchCommitted:
		return k.batch(e)
	case SegmentSetAside:
		k.begin()
		k.put(tapelog.Leaf{Kind: tapelog.KindGap, Segment: e.Segment, Batches: e.Batches, Cause: segment.CauseStorage, Detail: tapelog.Cut(e.Cause)})
		k.later()
	case SegmentSealed:
		k.tape = e.TapeID
		k.begin()
		k.put(tapelog.Leaf{Kind: tapelog.KindSeal, Segment: e.Segment, SHA256: e.SHA256, PageSums: e.PageSums, Size: e.Bytes, Batches: e.Batches, Chain: e.Chain,
			Seen: e.Counters["seen"], Stored: e.Counters["stored"], Coalesced: e.Counters["coalesced"], Lost: e.Counters["lost"],
			Rows: e.Rows, Connects: e.Connects, From: e.From, To: e.To, BootID: e.BootID})
		return true
	case SegmentExpired:
		k.begin()
		k.expired = true
		leaf := tapelog.Leaf{Kind: tapelog.KindExpiry, Segment: e.Segment, SHA256: e.SHA256, Size: e.Bytes, From: e.From, To: e.To, Cause: e.Why, MaxSize: e.Limit,
			Rows: e.Rows, Connects: e.Connects}
		if e.Why == tapelog.ExpiredFull { // the next commit has a gap for it
			leaf.Batches = k.active.Batches
		}
		k.put(leaf)
		return true
	case SegmentHeld:
		k.begin()
		k.put(tapelog.Leaf{Kind: tapelog.KindHold, Segment: e.Segment, SHA256: e.SHA256, Cause: tapelog.Cut(e.Hold), Detail: tapelog.Cut(e.Reason)})
		return true
	case HoldReleased:
		k.begin()
		k.put(tapelog.Leaf{Kind: tapelog.KindRelease, Cause: tapelog.Cut(e.Hold), Detail: tapelog.Cut(e.Reason)})
		return true
	case RunStopped:
		k.begin()
		k.putGaps()
		leaf := k.active
		leaf.Kind, leaf.Segment, leaf.Detail = tapelog.KindStop, e.Segment, tapelog.Cut(escape.Bytes([]byte(e.Why)))
		countIn(&leaf, e.Counters)
		k.put(leaf)
		return true
	}
	return false
}

// batch updates the state of the active segment. Tampering with the recorder is logged at once.
func (k *LogKeeper) batch(e BatchCommitted) (now bool) {
	k.begin()
	k.active.Segment, k.active.Batches, k.active.Chain = e.Segment, e.Number, e.Chain
	countIn(&k.active, e.Batch.Counters)
	for _, g := range e.Gaps {
		k.addGap(e.Segment, g)
	}
	for _, a := range e.Batch.Anchors {
		if a.Kind == "step" { // every leaf has the clocks
			k.putCheckpoint()
			k.later()
			break
		}
	}
	if k.alarms(e.Gaps) {
		k.putCheckpoint()
		return true
	}
	return false
}

// alarms reports whether there is new tampering with the recorder. A lasting one is logged with the checkpoints.
func (k *LogKeeper) alarms(gaps []Gap) (news bool) {
	for _, g := range gaps {
		if segment.IsAlarm(g.Cause) && k.alarmed[g.Cause] != g.From {
			if k.alarmed == nil {
				k.alarmed = map[string]uint64{}
			}
			k.alarmed[g.Cause], news = g.From, true
		}
	}
	return news
}

// countIn sets the counters in a leaf. Counters missing in a batch are unchanged.
func countIn(l *tapelog.Leaf, c segment.Counters) {
	for name, at := range map[string]*uint64{"seen": &l.Seen, "stored": &l.Stored, "coalesced": &l.Coalesced, "lost": &l.Lost} {
		if n, ok := c[name]; ok {
			*at = n
		}
	}
}

// later writes the queue in the background.
func (k *LogKeeper) later() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
