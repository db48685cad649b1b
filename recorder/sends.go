package recorder

import (
	"fmt"
	"math"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// Sends without connect: the first of a process, socket and address comes as a connect does. Those after it the kernel counts,
// and once an interval each count becomes a row of its own, of so many sends, from the first of them to the last.

const (
	// sendsEvery is the interval. Who sent nothing for as long is told of at once when he sends again.
	sendsEvery = time.Minute
	// sendsEnd bounds how long a program that began before an interval ended may still count in it.
	sendsEnd = 100 * time.Millisecond
	// sendsIdle is after how many intervals without a send the kernel has forgotten all who sent.
	sendsIdle = 3
	// mostSenders bounds the processes that are remembered in an interval. Of any others one that has ended meanwhile may be unknown
	// in the row of its count; it is described by its first row.
	mostSenders = 4096
)

// sends are what the recorder knows of sends without connect. It belongs to the draining goroutine.
type sends struct {
	told, counted uint64 // that were recorded at once, and that the kernel had counted when an interval ended
	toldBefore    uint64 // told, then
	reported      uint64 // that have rows, or are in those of others
	active        int    // intervals until the kernel has forgotten all
	next          uint64 // when the interval ends, ns CLOCK_BOOTTIME
	due           uint64 // when the counts of the last one may be read; 0: they were

	senders, sendersBefore map[bpf.ProcessKey]*store.Process // of this interval and the last
}

// tell notes who was told of.
func (s *sends) tell(c *bpf.Connect, p *store.Process) {
	s.told++
	s.remember(c.Key, p)
}

func (s *sends) remember(k bpf.ProcessKey, p *store.Process) {
	if len(s.senders) < mostSenders {
		s.senders[k] = p
	}
}

// process finds who is counted, nil unknown: he may have ended.
func (s *sends) process(k bpf.ProcessKey) *store.Process {
	if p := s.senders[k]; p != nil {
		return p
	}
	return s.sendersBefore[k]
}

// countSends reads the counts of an interval that is over, and ends one.
func (r *recorder) countSends(now uint64, counted uint64) error {
	s := &r.sends
	if s.due != 0 && now >= s.due {
		s.due = 0
		if err := r.src.Sends(false, r.takeSends); err != nil {
			return fmt.Errorf("read sends: %w", err)
		}
	}
	if now < s.next || s.due != 0 {
		return nil
	}
	s.next = now + uint64(r.config.sendsEvery)
	if s.told != s.toldBefore || counted != s.counted {
		s.active = sendsIdle
	}
	if s.active == 0 {
		return nil
	}
	s.active--
	s.toldBefore, s.counted, s.due = s.told, counted, now+uint64(sendsEnd)
	s.sendersBefore, s.senders = s.senders, map[bpf.ProcessKey]*store.Process{}
	if err := r.src.NextSends(); err != nil {
		return fmt.Errorf("end an interval of sends: %w", err)
	}
	return nil
}

// countLastSends reads all counts, when no program runs any more.
func (r *recorder) countLastSends() error {
	if r.sends.due != 0 {
		if err := r.src.Sends(false, r.takeSends); err != nil {
			return fmt.Errorf("read sends: %w", err)
		}
	}
	if err := r.src.Sends(true, r.takeSends); err != nil {
		return fmt.Errorf("read sends: %w", err)
	}
	return nil
}

// sentOf is what became of sends: so many bytes went out, if that is known.
func sentOf(bytes int64) *store.Outcome {
	if bytes < 0 {
		return nil
	}
	return &store.Outcome{
		Established: store.Unmeasured, Duration: store.Unmeasured, Sent: bytes, Received: store.Unmeasured,
		Retransmits: store.Unmeasured, RTT: store.Unmeasured,
	}
}

// takeSends puts a count into the queue.
func (r *recorder) takeSends(s *bpf.SendCount) {
	c := &s.Of
	c.BootTime, c.Bytes = s.First, s.Bytes
	r.sends.reported += s.Count
	for left := s.Count; left > 0; {
		n := uint32(min(left, math.MaxUint32))
		left -= uint64(n)
		r.takeCount(c, n, s.Last)
		c.Bytes = 0 // the first row has them all
	}
}

// takeCount puts the row of n sends into the queue.
func (r *recorder) takeCount(c *bpf.Connect, n uint32, last uint64) {
	row := &r.row
	who := r.resolver.party(c)
	r.sends.remember(c.Key, who.task.Process)
	r.lookups.ask(c, who)
	if r.exclude(c, who, uint64(n)) {
		return
	}
	if len(c.Remote) == 0 || !r.resolver.address(c, who, row) {
		r.lumpSends(c, who, n, last)
		return
	}
	row.Count, row.LastBootTime = n, last
	switch r.queue.add(row, who.share, r.resolver.need(who), true) {
	case added:
		r.ledger.rows++
		r.ledger.coalesced += uint64(n) - 1
	case counted:
		r.ledger.coalesced += uint64(n)
	case refused:
		r.lumpSends(c, who, n, last)
	}
}

// lumpSends counts sends for which there is no row of an address.
func (r *recorder) lumpSends(c *bpf.Connect, who *party, n uint32, last uint64) {
	r.resolver.lump(c, who, &r.row)
	r.row.Count, r.row.LastBootTime = n, last
	r.queueLump(c, who, uint64(n))
}
