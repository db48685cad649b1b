package bpf

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Handover is what a recorder leaves to the next one of the same boot: how far it has come with the records and counts of the
// kernel, as of a batch that it wrote to the tape. The tape has a number of it, in the same transaction as the batch; so
// the next recorder takes up what is not on the tape, and nothing twice.
type Handover struct {
	Time     uint64     `json:"time"`     // of the batch, ns CLOCK_BOOTTIME
	Counters Counters   `json:"counters"` // as the tape accounts for them, from this recorder's start
	Connects Mark       `json:"connects"` // where the ring is read on
	Outcomes Mark       `json:"outcomes"`
	Events   Mark       `json:"events"`
	Unkept   uint64     `json:"unkept"`  // of the events before that, those that were in memory alone
	Sends    uint32     `json:"sends"`   // counts of sends of generations before this one are on the tape
	Touched  []uint64   `json:"touched"` // touches that were told, by kind
	Hanging  []Hung     `json:"hanging"` // attempts that were accounted for before they returned
	Recorder ProcessKey `json:"recorder"`
	Heir     *Counters  `json:"heir,omitempty"` // as the tape accounts for those of the programs that replace these; nil: none do

	of *left // nil: of the programs that record
}

// Hung is an attempt that has not returned, and is accounted for.
type Hung struct {
	ID
	Excluded bool `json:",omitempty"` // it has no row
}

// Taken is what a recorder takes over from the one before.
type Taken struct {
	Handover
	Lost     uint64 // connects that the last one had read and not written: it was killed in a flood
	Outcomes uint64 // likewise outcomes
	Events   uint64 // likewise events
	SendsDue bool   // the counts of the last generation of sends are not on the tape

	// Of programs that were replaced, and that left records in another layout: the connects that nobody can read, and the bytes of all
	// such records. Such outcomes and events are in Outcomes and Events.
	Unread, UnreadBytes uint64
}

// Sizes of the map of pins, in bytes.
const (
	slotSize      = 8 << 10
	manifestSlots = 8
	journalSlot   = manifestSlots
	stateSlots    = 64
	pinSlots      = manifestSlots + 1 + stateSlots
	// mostHung bounds the attempts of a Handover. What hangs beyond that, and returns later, has two rows.
	mostHung = 150
)

// seqBits are those of the number of a handover that count. The others tell which set of pins it is of.
const (
	seqBits = 22
	seqMask = 1<<seqBits - 1
)

// Marks returns how far the rings were read: what a Handover of all that was read says.
func (c *Capture) Marks() (connects, outcomes, events Mark) {
	return c.mark(leftConnects), c.mark(leftOutcomes), c.mark(leftEvents)
}

// mark returns how far a ring was read, or that of the programs before that is read first.
func (c *Capture) mark(kind int) Mark {
	for _, l := range c.left {
		if !l.done[kind] {
			return (*l.from.rings()[kind]).mark()
		}
	}
	return (*c.rings()[kind]).mark()
}

// Handover keeps h for the next recorder, and returns the number that the tape is to have of it, 0 if nothing outlives this
// process. Of the batches that are not on the tape yet there may be stateSlots.
func (c *Capture) Handover(h *Handover) (uint64, error) {
	if c.pins == nil || c.loose {
		return 0, nil
	}
	whole := *h
	if c.self != (ProcessKey{}) {
		whole.Recorder = c.self
	}
	h.of = c.heldBy(h)
	if h.of != nil {
		return h.of.keep(&whole, &c.past)
	}
	if len(c.left) > 0 { // all that was left is read, and on the tape with this handover
		finished := c.left
		c.left = nil
		c.finished.Store(&finished)
	}
	for mark, ring := range map[*Mark]*ring{&whole.Connects: c.connects, &whole.Outcomes: c.outcomes, &whole.Events: c.events} {
		if mark.of != nil && mark.of != ring {
			*mark = ring.mark()
		}
	}
	whole.Counters = whole.Counters.since(&c.past).plus(&c.base)
	whole.Touched = append([]uint64{}, c.touched[:]...)
	if len(whole.Hanging) > mostHung {
		whole.Hanging = whole.Hanging[:mostHung]
	}
	return c.pins.putState(&whole)
}

// Written tells that the tape has a handover: what is before it in the rings may be freed. Any goroutine may call it.
func (c *Capture) Written(h *Handover) {
	if h.of != nil {
		return
	}
	if finished := c.finished.Swap(nil); finished != nil {
		_ = leave(*finished) // what cannot be removed the next recorder removes
	}
	c.connects.safe.Store(&h.Connects)
	c.outcomes.safe.Store(&h.Outcomes)
	c.events.safe.Store(&h.Events)
}

// Taken returns what is taken over from the recorder before, nil: nothing.
func (c *Capture) Taken() *Taken { return c.taken }

// Doubt tells why the programs that the last recorder left were not taken over although they should have been: somebody has been at
// them. "" there is no doubt.
func (c *Capture) Doubt() string { return c.doubted }

// Pinned tells whether programs and rings outlive this process.
func (c *Capture) Pinned() bool { return c.pins != nil }

// SendsTold returns the number of a handover for which counts of sends of all generations before the last are told, and with
// due not those of the last.
func (c *Capture) SendsTold(due bool) (uint32, error) {
	now, err := c.generation()
	if due && now > 0 {
		now--
	}
	return now, err
}

// takeOver goes on where the last recorder was.
func (c *Capture) takeOver(h *Handover) error {
	t := &Taken{Handover: *h}
	t.Lost = c.connects.readFrom(h.Connects)
	t.Outcomes = c.outcomes.readFrom(h.Outcomes)
	t.Events = c.events.readFrom(h.Events) + h.Unkept
	c.base = h.Counters
	c.base.Sent += t.Lost
	c.base.Seen = c.base.Sent + c.base.LostRing
	c.base.OutcomeSent = h.Outcomes.Records
	c.base.OutcomeSeen = c.base.OutcomeSent + c.base.OutcomeLost
	c.base.EventSent = h.Events.Records - h.Unkept
	c.base.EventSeen = c.base.EventSent + c.base.EventLost
	c.base.AnswerSeen = c.base.AnswerSent + c.base.AnswerLost
	c.base.ProcessSent = c.processes.next.Records // what the last one was told of processes is told again
	c.base.ProcessSeen = c.base.ProcessSent + c.base.ProcessLost
	copy(c.touched[:], h.Touched)
	now, err := c.generation()
	if err != nil {
		return err
	}
	t.SendsDue = h.Sends < now
	c.taken = t
	return c.knowLosers(h.Time)
}

// knowLosers takes those who lost connects before a time as told.
func (c *Capture) knowLosers(before uint64) error {
	var known []int
	if err := c.Losers(func(*Loser) {}); err != nil {
		return err
	}
	for at, l := range c.losers {
		if l.Last > before {
			known = append(known, at)
		}
	}
	for _, at := range known {
		delete(c.losers, at)
	}
	return nil
}

// putState writes a handover into the next slot.
func (p *pins) putState(h *Handover) (uint64, error) {
	p.seq = (p.seq + 1) & seqMask
	if p.seq == 0 {
		p.seq = 1
	}
	text, err := json.Marshal(struct {
		Seq uint64
		*Handover
	}{p.seq, h})
	if err == nil {
		err = putText(p.slot(p.seq), text)
	}
	if err != nil {
		return 0, fmt.Errorf("keep handover: %w", err)
	}
	return p.name<<seqBits | p.seq, nil
}

// state returns the handover of a number that a tape has.
func (p *pins) state(number uint64) (*Handover, error) {
	var s struct {
		Seq uint64
		Handover
	}
	seq := number & seqMask
	text, err := getText(p.slot(seq))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read handover: %w", err)
	}
	if s.Seq != seq {
		return nil, fmt.Errorf("%w: the handover of the last batch is not there", errTouched)
	}
	p.seq = seq
	return &s.Handover, nil
}

func (p *pins) slot(seq uint64) []byte {
	at := (manifestSlots + 1 + int(seq%stateSlots)) * slotSize
	return p.memory[at : at+slotSize]
}

// putText writes a text with its length.
func putText(to, text []byte) error {
	if len(text) > len(to)-4 {
		return fmt.Errorf("%d bytes are too many", len(text))
	}
	binary.NativeEndian.PutUint32(to, uint32(len(text)))
	copy(to[4:], text)
	return nil
}

func getText(from []byte) ([]byte, error) {
	n := binary.NativeEndian.Uint32(from)
	if int(n) > len(from)-4 {
		return nil, fmt.Errorf("%w: a text of %d bytes", errTouched, n)
	}
	return from[4 : 4+n], nil
}

// fields are all of a Counters.
func (n *Counters) fields() []*uint64 {
	return []*uint64{
		&n.Seen, &n.Sent, &n.LostRing, &n.Reissued, &n.InFlightFull, &n.NotAttempted, &n.ProcessSeen, &n.ProcessSent, &n.ProcessLost,
		&n.OutcomeSeen, &n.OutcomeSent, &n.OutcomeLost, &n.EventSeen, &n.EventSent, &n.EventLost, &n.SendCounted, &n.AnswerSeen, &n.AnswerSent, &n.AnswerLost, &n.Missed, &n.MissedReturn,
	}
}

// since returns what was counted since base. What is less than that became less again.
func (n Counters) since(base *Counters) Counters {
	from := base.fields()
	for i, field := range n.fields() {
		*field = less(*field, *from[i])
	}
	return n
}

func (n Counters) plus(base *Counters) Counters {
	from := base.fields()
	for i, field := range n.fields() {
		*field += *from[i]
	}
	return n
}
