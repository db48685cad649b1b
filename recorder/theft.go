package recorder

import (
	"strings"

	"github.com/conntape/conntape/bpf"
)

// theft looks for records that another process has read from our rings: whoever is root can map a ring by its id, as a second
// consumer, and each record comes to one of the two.
//
// A program counts a record after it has put it into the ring. So whatever was counted before the ring was seen empty has
// been read by somebody, and what we have not read of it somebody else has. While records come without a pause the ring is
// never seen empty. But it holds no more records than fit into its bytes: what was counted before those were looked at,
// is neither read by us nor fits into them, was stolen. So at most as many thefts stay unseen as the ring holds small
// records, and those are seen in the next pause.
type theft struct {
	sent  uint64 // count with which what was read is to be compared when the ring is empty; 0 none
	whole uint64 // when nothing was missing last, ns CLOCK_BOOTTIME
	found uint64 // process records that were stolen
	// inHand is 1 while a record has been read from the ring and is not taken yet, so that it is in neither count.
	inHand uint64
}

// suspectTheft compares what the kernel has sent with what was read. If something is missing the ring has to be read to
// its end before it means anything.
func (r *recorder) suspectTheft(now uint64, k bpf.Counters) error {
	r.theft.sent = 0
	if read := r.ledger.received + r.ledger.stolen; k.Sent > read {
		r.theft.sent = k.Sent
		if held := uint64(r.src.Unread() / bpf.LeastRecord); k.Sent > read+held+r.theft.inHand {
			r.steal(now, k.Sent-read-held-r.theft.inHand)
		}
	} else {
		r.theft.whole = now
	}
	if k.ProcessSent <= r.ledger.described+r.theft.found {
		return nil
	}
	if _, err := r.drainProcesses(); err != nil {
		return err
	}
	if stolen := k.ProcessSent - min(k.ProcessSent, r.ledger.described+r.theft.found); stolen > 0 {
		r.theft.found += stolen
		r.ledger.gaps.extend(causeProcessesStolen, r.ledger.seenAt, now, 0, stolen)
		r.relearnAlive = 2
		r.log.Error("somebody else reads our ring", "processes", stolen, "open in", strings.Join(r.src.RingHolders(), ", "))
	}
	return nil
}

// findTheft is for a moment at which ReadConnect has said that the ring is empty.
func (r *recorder) findTheft() {
	if r.theft.sent == 0 || r.src.Unread() > 0 {
		return
	}
	now := r.boot()
	if read := r.ledger.received + r.ledger.stolen; r.theft.sent > read {
		r.steal(now, r.theft.sent-read)
	} else {
		r.theft.whole = now
	}
	r.theft.sent = 0
}

// steal notes records that somebody else has read.
func (r *recorder) steal(now, n uint64) {
	holders := r.src.RingHolders()
	r.ledger.steal(r.theft.whole, now, n, holders)
	r.log.Error("somebody else reads our ring", "connects", n, "open in", strings.Join(holders, ", "))
	r.theft.whole = now
}

// steal counts attempts whose records somebody else has read, and tells of them in a gap.
func (l *ledger) steal(from, now, n uint64, holders []string) {
	l.stolen += n
	l.observed[causeStolen] += n
	l.gaps.extend(causeStolen, from, now, n, 0)
	thief := "no process has it open any more"
	if len(holders) > 0 {
		thief = "it is open in " + strings.Join(holders, ", ")
	}
	l.gaps.latest[causeStolen].Detail = "another process read them from our ring: " + thief
}
