package recorder

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/recorder/hash"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// Causes of gaps that the recorder writes. The store has its own.
const (
	causeRing        = "ring full"         // the kernel had no room for a connect's record
	causeMemory      = "memory bound"      // the queue had none
	causeShare       = "tape share"        // its process, or all kin, wrote half of a full tape
	causeMissed      = "missed probes"     // the kernel did not run a program
	causeProcessRing = "process ring full" // descriptions were lost, no connects
	causeOutcome     = "outcomes lost"     // what became of connections was lost, no connects
	causeEvent       = "events lost"       // what sockets did beside connecting was lost, no connects
	causeLookup      = "names lost"        // answers by DNS were lost, no connects
	causeStore       = "store error"       // the tape could not be written
	causeUnread      = "ring not read"     // recording stopped before all of it was read
	causeStolen      = segment.CauseStolen // another process read records of connects from our ring
	// Likewise of processes; no connects.
	causeProcessesStolen = segment.CauseProcessesStolen
)

// ledger accounts for every attempt. Each is in exactly one of stored (it has a row), coalesced (it is counted in
// another's row), excluded (a rule keeps it off the tape), and lost; so
//
//	seen = stored + coalesced + excluded + lost
//
// (seen without folded, which is io_uring's second issue of an attempt that is counted already) holds once capture has ended and everything is drained. Before, seen is ahead by what is in the ring or in flight.
type ledger struct {
	kernel    bpf.Counters // as last read
	received  uint64       // records read from the ring
	stolen    uint64       // records that somebody else has read from it
	described uint64       // records read from the process ring
	rows      uint64       // rows handed to the queue
	coalesced uint64
	folded    uint64
	inherited uint64            // attempts in flight that the last recorder accounted for
	adopted   uint64            // sockets that were open when recording began: each is an attempt that nobody saw
	own       uint64            // connects of our own, by which the hooks are probed: no rows
	updated   uint64            // rows that got a result later
	inFlight  uint64            // rows made of attempts that had not returned
	recovered uint64            // of those, attempts whose record was lost after all
	names     names             // what was done for want of room in the segment
	argvCut   uint64            // arguments for which there was no memory
	unread    uint64            // records that were left in the ring at the end
	refused   map[string]uint64 // attempts that were refused, by cause
	hashes    hash.Counts
	outcomes  outcomeLedger
	events    eventLedger
	lookups   lookupLedger

	looks     uint64        // at the fill of the ring
	filled    uint64        // sum of what it held at these looks, bytes
	batches   atomic.Uint64 // written or given up. The writer counts them
	batchTime atomic.Uint64 // that they took, retries included, ns

	dropping sync.Mutex
	dropped  drops // the writer's part: batches that could not be written anywhere. Guarded by dropping
	gone     drops // the same when the ledger was last observed, so that gaps and counters never differ

	seenAt   uint64            // when the kernel's counters were last read, ns CLOCK_BOOTTIME
	observed map[string]uint64 // losses by cause as they were then
	gaps     gaps
}

// drops are attempts, and the rows that they had.
type drops struct{ attempts, rows, outcomes, events, lookups uint64 }

// drop counts a batch that could not be written. It is for the writer.
func (l *ledger) drop(d drops) {
	l.dropping.Lock()
	defer l.dropping.Unlock()
	l.dropped.attempts += d.attempts
	l.dropped.rows += d.rows
	l.dropped.outcomes += d.outcomes
	l.dropped.events += d.events
	l.dropped.lookups += d.lookups
}

func newLedger(now, quiet uint64) *ledger {
	return &ledger{
		seenAt: now, refused: map[string]uint64{}, observed: map[string]uint64{},
		gaps: gaps{quiet: quiet, latest: map[string]*lastGap{}, news: map[string]*losers{}},
	}
}

// refuse counts n attempts for which there was no memory.
func (l *ledger) refuse(cause string, c *bpf.Connect, who owner, n uint64) {
	l.refused[cause] += n
	l.gaps.lose(cause, who.life, loser{
		pid: c.Key.Tgid, uid: c.UID, comm: cString(c.Comm[:]), n: n, first: c.BootTime, last: c.BootTime, parent: who.parent,
	})
}

// loseInRing notes who lost attempts that the kernel counts.
func (l *ledger) loseInRing(k *bpf.Loser) {
	lost := loser{
		pid: k.Tgid, uid: k.UID, comm: cString(k.Comm[:]), n: k.Attempts, first: k.First, last: k.Last,
		parent: lifeKey{k.ParentStart, k.ParentTgid}, children: k.Children,
	}
	if k.Children {
		lost.parent = lifeKey{k.Start, k.Tgid}
	}
	l.gaps.lose(causeRing, lifeKey{k.Start, k.Tgid}, lost)
}

// lost returns all losses by cause, and what was excluded. An attempt that was written while in flight, and whose record was lost then, is not
// lost: that leaves fewer for the ring, or for the thief.
func (l *ledger) lost() map[string]uint64 {
	recovered := min(l.recovered, l.kernel.LostRing)
	lost := map[string]uint64{
		causeRing:   l.kernel.LostRing - recovered,
		causeStolen: l.stolen - min(l.recovered-recovered, l.stolen),
		causeMissed: l.kernel.Missed,
		causeMemory: l.refused[causeMemory],
		causeShare:  l.refused[causeShare],
		causeStore:  l.refused[causeStore] + l.gone.attempts,
		causeUnread: l.unread,
	}
	for cause, n := range l.refused {
		if _, ok := segment.ExcludedBy(cause); ok {
			lost[cause] = n
		}
	}
	return lost
}

// observe takes the kernel's counters and extends, opens or ends gaps.
func (l *ledger) observe(now uint64, k bpf.Counters) {
	described := k.ProcessLost - min(l.kernel.ProcessLost, k.ProcessLost)
	l.kernel = k
	l.dropping.Lock()
	l.gone = l.dropped
	l.dropping.Unlock()
	for cause, n := range l.lost() {
		before := l.observed[cause]
		if n < before { // a record was lost, but its attempt has a row
			n += l.gaps.correct(cause, before-n)
			before = n
		}
		l.observed[cause] = n
		l.gaps.extend(cause, l.seenAt, now, n-before, 0)
	}
	l.gaps.extend(causeProcessRing, l.seenAt, now, 0, described)
	outcomes := l.lostOutcomes()
	l.gaps.extend(causeOutcome, l.seenAt, now, 0, outcomes-min(l.outcomes.observed, outcomes))
	l.outcomes.observed = max(l.outcomes.observed, outcomes)
	events := l.lostEvents()
	l.gaps.extend(causeEvent, l.seenAt, now, 0, events-min(l.events.observed, events))
	l.events.observed = max(l.events.observed, events)
	lookups := l.lostLookups()
	l.gaps.extend(causeLookup, l.seenAt, now, 0, lookups-min(l.lookups.observed, lookups))
	l.lookups.observed = max(l.lookups.observed, lookups)
	l.seenAt = now
}

// counters are what the tape keeps: absolute since the start.
func (l *ledger) counters() segment.Counters {
	c := segment.Counters{
		"received":         l.received,
		"folded":           l.folded,
		"coalesced":        l.coalesced - min(l.coalesced, l.gone.attempts-l.gone.rows),
		"stored":           l.rows - min(l.rows, l.gone.rows),
		"updated":          l.updated,
		"in_flight_stored": l.inFlight,
		"recovered":        l.recovered,
		"in_flight_full":   l.kernel.InFlightFull,
		"argv_cut":         l.argvCut,
		"names_cut":        l.names.cut,
		"names_refused":    l.names.refused,
		"missed_return":    l.kernel.MissedReturn,
		"not_attempted":    l.kernel.NotAttempted,
		"seen":             l.kernel.Seen + l.kernel.SendCounted + l.kernel.Missed + l.adopted - l.folded - l.own - l.inherited,
		"send_counted":     l.kernel.SendCounted,
		"adopted":          l.adopted,
		"own":              l.own,
		"sent":             l.kernel.Sent,
		"process_seen":     l.kernel.ProcessSeen,
		"process_sent":     l.kernel.ProcessSent,
		"process_lost":     l.kernel.ProcessLost,
		"ring_looks":       l.looks,
		"ring_bytes":       l.filled,
		"hash_reads":       l.hashes.Reads,
		"hash_bytes":       l.hashes.Bytes,
		"hash_skipped":     l.hashes.Skipped,
		"hash_failed":      l.hashes.Failed,
		"batches":          l.batches.Load(),
		"batch_ns":         l.batchTime.Load(),
	}
	l.countOutcomes(c)
	l.countEvents(c)
	l.countLookups(c)
	c["excluded"], c["lost"] = 0, 0
	for cause, n := range l.lost() {
		if _, ok := segment.ExcludedBy(cause); ok {
			c["excluded"] += n
			continue
		}
		c["lost_"+lostNames[cause]] = n
		c["lost"] += n
	}
	if done := c["stored"] + c["coalesced"] + c["excluded"] + c["lost"]; c["seen"] > done {
		c["in_flight"] = c["seen"] - done
	} else {
		c["in_flight"] = 0
	}
	return c
}

// lostNames are the causes as the names of counters have them.
var lostNames = map[string]string{
	causeRing:   "ring",
	causeMemory: "memory",
	causeShare:  "share",
	causeMissed: "missed",
	causeStore:  "store",
	causeUnread: "unread",
	causeStolen: "stolen",
}

// excludedQuiet is how long nothing has to be excluded by a rule before the next is another gap, ns. A rule is no accident: one
// row for each burst would hide the gaps that are.
const excludedQuiet = uint64(10 * time.Minute)

// gaps keeps the latest loss of each cause, so that one that lasts is one row.
type gaps struct {
	quiet    uint64 // ns without a loss after which the next is another gap
	latest   map[string]*lastGap
	news     map[string]*losers // since the last extend, by cause
	replaced []store.Gap        // not handed out yet, and no longer the latest
}

type lastGap struct {
	store.Gap
	losers    losers
	described uint64 // process descriptions lost
	changed   bool
	ended     bool
}

// lose notes who lost what the next extend will count.
func (g *gaps) lose(cause string, k lifeKey, lost loser) {
	if g.news[cause] == nil {
		g.news[cause] = &losers{}
	}
	g.news[cause].lose(k, lost)
}

// tell adds a gap that is whole.
func (g *gaps) tell(gap store.Gap) { g.replaced = append(g.replaced, gap) }

// extend adds what was lost between from and to.
func (g *gaps) extend(cause string, from, to, lost, described uint64) {
	o := g.latest[cause]
	_, excluded := segment.ExcludedBy(cause)
	if lost == 0 && described == 0 {
		quiet := g.quiet
		if excluded {
			quiet = max(quiet, excludedQuiet)
		}
		if o != nil && to-o.To >= quiet {
			o.ended = true
		}
		return
	}
	if o == nil || o.ended {
		if o != nil && o.changed {
			g.replaced = append(g.replaced, o.Gap)
		}
		o = &lastGap{Gap: store.Gap{From: from, Cause: cause}}
		g.latest[cause] = o
	}
	o.To, o.changed = to, true
	o.Lost += lost
	o.described += described
	if news := g.news[cause]; news != nil {
		o.losers.add(news)
		delete(g.news, cause)
	}
	verb := "lost"
	if excluded {
		verb = "made"
	}
	o.Detail = detailOf(cause, o.described) + o.losers.text(o.From, o.Lost, verb)
}

// correct takes back up to n of what the latest gap said was lost, and returns how many it could not.
func (g *gaps) correct(cause string, n uint64) uint64 {
	o := g.latest[cause]
	if o == nil {
		return n
	}
	back := min(o.Lost, n)
	o.Lost -= back
	o.changed = o.changed || back > 0
	return n - back
}

// pending tells whether take would return something.
func (g *gaps) pending() bool {
	for _, o := range g.latest {
		if o.changed {
			return true
		}
	}
	return len(g.replaced) > 0
}

// take returns the gaps that are new or have changed since the last call.
func (g *gaps) take() []store.Gap {
	out := g.replaced
	g.replaced = nil
	for _, o := range g.latest {
		if o.changed {
			out = append(out, o.Gap)
			o.changed = false
		}
	}
	return out
}

func detailOf(cause string, described uint64) string {
	switch cause {
	case causeRing:
		return "connects came faster than they were read"
	case causeMemory:
		return "connects came faster than they could be written, and their share of the queue was full"
	case causeShare:
		return "processes that the tape does not tell of, because what they belong to holds half of it"
	case causeMissed:
		return "the kernel did not run a probe this many times"
	case causeProcessRing, causeProcessesStolen:
		return fmt.Sprintf("%d process descriptions; connects are complete", described)
	case causeOutcome:
		return fmt.Sprintf("what became of connections, %d times: it is unknown; connects are complete", described)
	case causeEvent:
		return fmt.Sprintf("%d connections that were accepted, or sockets that were opened or listen; connects are complete", described)
	case causeLookup:
		return fmt.Sprintf("%d answers by DNS: names that were looked up, and those of connections that followed; connects are complete", described)
	case causeUnread:
		return "recording was stopped before the ring was read to its end"
	case causeStore:
		return "the tape could not be written"
	}
	if _, ok := segment.ExcludedBy(cause); ok {
		return "as --exclude says"
	}
	return ""
}
