package store

import (
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapelog"
)

// Listen takes an event of the tape. It returns when what must not be forgotten
// is on the disk: that a segment was begun or sealed, that one is to be removed, a
// hold, the end. All else waits for the next of these, or is written in the background.
func (k *LogKeeper) Listen(e Event) {
	if k.take(e) {
		k.flush()
	}
}

// take queues what there is to say of an event, and tells whether it must be on
// the disk before anything goes on.
func (k *LogKeeper) take(e Event) (now bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch e := e.(type) {
	case SegmentStarted:
		k.tape = e.TapeID
		k.begin()
		if k.active.Segment == e.Previous && e.Previous != 0 {
			k.putCheckpoint() // its last word before it is sealed, which may take a while
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
		if e.Why == tapelog.ExpiredFull { // the next commit has to tell of it
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

// batch notes how far the active segment has come. What somebody does to the recorder is told at once: he is at work.
func (k *LogKeeper) batch(e BatchCommitted) (now bool) {
	k.begin()
	k.active.Segment, k.active.Batches, k.active.Chain = e.Segment, e.Number, e.Chain
	countIn(&k.active, e.Batch.Counters)
	for _, g := range e.Gaps {
		k.addGap(e.Segment, g)
	}
	for _, a := range e.Batch.Anchors {
		if a.Kind == "step" { // the clocks are part of every leaf
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

// alarms tells whether somebody is at work on the recorder, and that was not told yet. What lasts is told with the
// checkpoints.
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

// countIn puts counters into a leaf. Those that a batch does not name have not
// changed.
func countIn(l *tapelog.Leaf, c segment.Counters) {
	for name, at := range map[string]*uint64{"seen": &l.Seen, "stored": &l.Stored, "coalesced": &l.Coalesced, "lost": &l.Lost} {
		if n, ok := c[name]; ok {
			*at = n
		}
	}
}

// later has the background write what waits.
func (k *LogKeeper) later() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
