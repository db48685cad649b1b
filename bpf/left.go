package bpf

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// An upgrade replaces programs without a hole: the new ones are attached before the old ones are detached. What the old ones left in
// their rings is read first, and each connect that both saw is left out of it (twins.go). Their set stays pinned, and the tape's handovers
// are theirs, until all of it is on the tape; so a recorder that is killed meanwhile is followed by one that does the same.

// endsWithin bounds how long a program that was detached may still be about to send.
const endsWithin = 100 * time.Millisecond

// Places in left.done: those of the rings are as in ringNames.
const (
	leftConnects = iota
	leftProcesses
	leftOutcomes
	leftEvents
	leftAnswers
	leftSends
	leftKinds
)

// A left is what replaced programs left.
type left struct {
	pins     *pins
	from     *Capture // of it, the maps and rings
	state    Handover // that the tape has
	readable map[string]bool

	twins       map[ID]struct{}     // attempts and events that the new programs have, too
	twinAnswers map[uint64]struct{} // answers, by their time
	waiting     map[uint64]ID       // attempts whose rows are still to come, by cookie
	flying      []flyingConnect     // attempts that have not returned
	overtaken   uint64              // when the next programs were attached: they have what began later, ns CLOCK_BOOTTIME
	ends        [leftSends]uint64   // of the rings, when they were compared with those of the new programs
	done        [leftKinds]bool     // read to the end
	counts      Counters            // what is told of it
	final       Counters            // of its programs, from their start
	missed      uint64              // by them, before they were detached
}

// flyingConnect is a Connect and its bytes.
type flyingConnect struct {
	Connect
	bytes []byte
}

// inherit takes over what is in the rings of sets, which these programs replace. The error tells of a set that is not trusted.
func (c *Capture) inherit(sets []trustedSet, handover uint64) error {
	var errs []error
	for i, s := range sets {
		l, err := s.openLeft(i == 0, handover)
		if err != nil {
			s.unshare()
			errs = append(errs, err)
			continue
		}
		c.left = append(c.left, l)
	}
	if len(c.left) == 0 {
		return errors.Join(errs...)
	}
	atomic.StoreUint64(c.left[len(c.left)-1].pins.heir(), c.pins.name)
	c.pins.step("heir named")
	for _, l := range c.left {
		errs = append(errs, l.detach())
	}
	c.pins.step("old ones ended")
	errs = append(errs, c.forgetSends())
	time.Sleep(endsWithin)
	c.skipped, c.hung = map[ID]struct{}{}, map[uint32]uint64{}
	c.taken = &Taken{Handover: c.left[0].state, SendsDue: true}
	first := c.left[0].from
	c.taken.Connects.of, c.taken.Handover.Outcomes.of, c.taken.Handover.Events.of = first.connects, first.outcomes, first.events
	if heir := c.left[0].state.Heir; heir != nil {
		c.base = heir.unread()
	}
	for i, l := range c.left {
		errs = append(errs, c.reckon(i))
		c.past = c.past.plus(&l.counts)
	}
	return errors.Join(errs...)
}

// openLeft opens the maps of a set, and looks whether they are as the last recorder left them; with told the tape has the handover from
// which it is read on.
func (s trustedSet) openLeft(told bool, handover uint64) (_ *left, err error) {
	l := &left{pins: s.pins, readable: map[string]bool{}, waiting: map[uint64]ID{}, twins: map[ID]struct{}{}, missed: math.MaxUint64}
	if told {
		state, err := s.state(handover)
		if err != nil {
			return nil, err
		}
		l.state = *state
	}
	now, err := layouts()
	if err != nil {
		return nil, err
	}
	for name, layout := range now {
		l.readable[name] = s.Layouts[name] == layout
	}
	l.from = &Capture{backend: s.Backend, first: s.First, atReturn: s.AtReturn, attachedAt: s.Attached, collection: &ebpf.Collection{Maps: map[string]*ebpf.Map{}, Programs: map[string]*ebpf.Program{}}}
	defer func() {
		if err != nil {
			l.from.abandon()
		}
	}()
	for name, id := range s.Maps {
		if l.from.collection.Maps[name], err = s.openMap(pinName("map", name), id); err != nil {
			delete(l.from.collection.Maps, name)
			return nil, err
		}
	}
	for name, id := range s.Programs {
		if l.from.collection.Programs[name], err = s.openProgram(name, id); err != nil {
			delete(l.from.collection.Programs, name)
			return nil, err
		}
	}
	if *s.heir() == 0 { // else some may be gone
		if err := s.lookAtLinks(); err != nil {
			return nil, err
		}
	}
	return l, l.mapRings()
}

// lookAtLinks looks whether each link is as it was pinned.
func (s trustedSet) lookAtLinks() error {
	for i := range s.Links {
		l, err := s.openLink(i, s.manifest)
		if l != nil {
			_ = l.Close()
		}
		if err != nil {
			return err
		}
	}
	return s.checkFiles(s.manifest)
}

// mapRings begins to read the rings where the tape says. Nothing of them is freed: they end with the set.
func (l *left) mapRings() error {
	for i, name := range ringNames() {
		m := l.from.collection.Maps[name]
		if m == nil || m.Type() != ebpf.RingBuf {
			return fmt.Errorf("%w: there is no ring of %s", errTouched, name)
		}
		r, err := newRing(m)
		if err != nil {
			return fmt.Errorf("map ring of %s: %w", name, err)
		}
		*l.from.rings()[i] = r
		if i < len(l.pins.journals()) {
			if err := r.keepFor(&l.pins.journals()[i]); err != nil {
				return err
			}
		}
		r.keep = keepAll
	}
	return nil
}

// canCount tells whether the counters of the set are those that this program knows.
func (l *left) canCount() bool {
	m := l.from.collection.Maps["counters"]
	return l.readable["counters"] && m != nil && m.ValueSize() == counterSlots*8
}

// detach ends the programs of the set. What is detached by closing its link may run on for a while: see late.
func (l *left) detach() error {
	if l.canCount() { // with some programs gone the others count what they do not find
		n, err := l.from.Counters()
		if err != nil {
			return fmt.Errorf("count before detaching: %w", err)
		}
		l.missed = n.Missed
	}
	files, err := os.ReadDir(l.pins.path())
	if err != nil {
		return fmt.Errorf("read pins: %w", err)
	}
	for _, f := range slices.Backward(files) {
		if !isLinkName(f.Name()) {
			continue
		}
		pinned, err := link.LoadPinnedLink(l.pins.path(f.Name()), nil)
		if err != nil {
			return fmt.Errorf("open pinned link: %w", err)
		}
		_ = pinned.Detach() // at once, where the kernel can: from cgroups
		if err := errors.Join(os.Remove(l.pins.path(f.Name())), pinned.Close()); err != nil {
			return fmt.Errorf("detach: %w", err)
		}
		l.pins.step("a link is gone")
	}
	return nil
}

// leave lets go of sets that are on the tape as a whole.
func leave(all []*left) error {
	var errs []error
	for _, l := range all {
		errs = append(errs, l.pins.remove(), l.close())
	}
	return errors.Join(errs...)
}

func (l *left) close() error {
	l.pins.unshare()
	l.from.pins = nil
	return l.from.Close()
}
