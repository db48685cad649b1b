package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// ReadConnect waits for the next attempt and fills rec, which is valid until the next call and not allocated anew.
//
// It returns os.ErrDeadlineExceeded when the ring is empty and the deadline has passed, or when it was woken without a
// record: by Interrupt, or after Sleep. It returns os.ErrClosed after Close.
func (c *Capture) ReadConnect(at time.Time, rec *Connect) error {
	if ok, err := c.readLeftConnect(rec); ok || err != nil {
		return err
	}
	for waited := false; ; waited = true { // at the deadline comes what is below the fill level
		var err error
		if c.sample, err = c.connects.read(c.sample); err == nil {
			if err := rec.decode(c.sample); err != nil || !c.skips(rec) {
				return err
			}
			continue
		}
		if waited || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := c.fill.wait(at); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// Sleep has ReadConnect woken as soon as another attempt begins, and when a quarter of the process ring is full. That
// is once; then it has to be asked for again. An attempt that begins at the same moment may not see it.
func (c *Capture) Sleep() error {
	if err := c.collection.Variables["recorder_sleeps"].Set(uint32(1)); err != nil {
		return fmt.Errorf("set recorder_sleeps: %w", err)
	}
	return nil
}

// Interrupt makes ReadConnect return without waiting on, now or when it is called next. Any goroutine may call it.
func (c *Capture) Interrupt() { c.fill.interrupt() }

// ReadProcess takes the next process event without waiting. It returns false when there is none.
//
// Whatever a process has to have for its connect to be understood is in this ring before that connect is in the other:
// read some connects, then everything here, then resolve those connects.
func (c *Capture) ReadProcess(rec *Process) (bool, error) {
	ok, err := c.readLeft(leftProcesses, func(_ *left, b []byte) (bool, error) {
		_, err := rec.decode(b)
		return true, err
	})
	if ok || err != nil {
		return ok, err
	}
	c.process, err = c.processes.read(c.process)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = rec.decode(c.process)
	return err == nil, err
}

// Snapshot calls fn with every process that is alive, in no order that means anything. The record is reused.
func (c *Capture) Snapshot(fn func(*Process)) error {
	all, err := iterate(c.collection.Programs["process_snapshot"])
	if err != nil {
		return err
	}
	var (
		p   Process
		own uint32
	)
	if err := c.collection.Variables["recorder_tgid"].Get(&own); err != nil { // the walk has set it
		return fmt.Errorf("read recorder_tgid: %w", err)
	}
	for len(all) > 0 {
		n, err := p.decode(all)
		if err != nil {
			return fmt.Errorf("read task iterator: %w", err)
		}
		if p.Key.Tgid == own {
			c.self = p.Key
		}
		fn(&p)
		all = all[n:]
	}
	return nil
}

// InFlight calls fn with every attempt that has entered the hook and not returned, its Errno Unknown. The record is
// reused. An attempt that returns meanwhile may or may not be among them; its ring record has the same ID.
func (c *Capture) InFlight(fn func(*Connect)) error {
	var rec Connect
	if prog := c.collection.Programs["in_flight_snapshot"]; prog != nil {
		all, err := iterate(prog)
		if err != nil {
			return err
		}
		for ; len(all) >= inFlightSize; all = all[inFlightSize:] {
			if err := rec.decode(all[:inFlightSize]); err != nil {
				return err
			}
			fn(&rec)
		}
		return nil
	}
	var (
		tid   uint32
		value []byte
	)
	it := c.collection.Maps["in_flight_hash"].Iterate()
	for it.Next(&tid, &value) {
		if err := rec.decode(value); err != nil {
			return err
		}
		fn(&rec)
	}
	// A map that changes all the time may make the walk start over until it gives up: the next one will see them.
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("walk attempts in flight: %w", err)
	}
	return nil
}

// iterate runs a BPF iterator over all tasks and returns what it wrote.
func iterate(prog *ebpf.Program) ([]byte, error) {
	it, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		return nil, fmt.Errorf("attach task iterator: %w", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return nil, fmt.Errorf("open task iterator: %w", err)
	}
	defer r.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read task iterator: %w", err)
	}
	return all, nil
}

// Counters are the kernel's own counts since Open, summed over CPUs.
type Counters struct {
	Seen         uint64 // attempts that a hook saw begin, reissues included
	Sent         uint64 // records put into the ring, one an attempt
	LostRing     uint64 // attempts whose record found the ring full
	Reissued     uint64 // io_uring issued the same request again: in Seen and Sent, not an attempt of its own
	InFlightFull uint64 // sent at the hook without a return value, since too many were blocked at once
	NotAttempted uint64 // connect(2) that failed before any hook: bad fd, not a socket, bad address pointer or length
	ProcessSeen  uint64 // exec, fork and exit
	ProcessSent  uint64
	ProcessLost  uint64 // the process ring was full, or the kernel did not run the program
	OutcomeSeen  uint64 // outcomes of attempts that were recorded, at most two each, and those that no program saw, at most
	OutcomeSent  uint64 // of them, records put into their ring
	OutcomeLost  uint64 // their ring was full, or the kernel had no memory, or did not run the program
	EventSeen    uint64 // accepts and what else ReadEvent has, and those that no program saw, as far as the kernel tells
	EventSent    uint64
	EventLost    uint64 // their ring was full, or the kernel did not run the program
	SendCounted  uint64 // sends without connect that have no record: Sends tells of them. Those that have are in Seen
	AnswerSeen   uint64 // answers of DNS servers, of TCP their segments
	AnswerSent   uint64
	AnswerLost   uint64 // their ring was full
	Missed       uint64 // attempts that nobody saw, because the kernel left our programs out; may become less again
	MissedReturn uint64 // attempts whose verdict or errno nobody saw
}

// counterSlots is COUNTER_SLOTS in record.h: what a CPU's row of counters has room for.
const counterSlots = 24

// Counters reads them. At rest Seen = Sent + LostRing + attempts in flight.
func (c *Capture) Counters() (Counters, error) {
	missed, err := c.readMisses() // before the counters: what makes up for a miss comes after it
	if err != nil {
		return Counters{}, err
	}
	memory, err := c.collection.Maps["counters"].Memory()
	if err != nil {
		return Counters{}, fmt.Errorf("map counters: %w", err)
	}
	rows := make([]byte, memory.Size())
	if _, err := memory.ReadAt(rows, 0); err != nil {
		return Counters{}, fmt.Errorf("read counters: %w", err)
	}
	var (
		n                                         Counters
		abandoned, noVerdict, rescued, unseenLost uint64
	)
	for i, to := range []*uint64{ // enum counter in record.h
		&n.Seen, &n.Sent, &n.LostRing, &n.Reissued, &n.InFlightFull, &n.NotAttempted,
		&n.ProcessSeen, &n.ProcessSent, &n.ProcessLost, &abandoned, &noVerdict, &rescued, &unseenLost,
		&n.OutcomeSeen, &n.OutcomeSent, &n.OutcomeLost,
		&n.EventSeen, &n.EventSent, &n.EventLost, &n.SendCounted,
		&n.AnswerSeen, &n.AnswerSent, &n.AnswerLost,
	} {
		for at := i * 8; at < len(rows); at += counterSlots * 8 {
			*to += binary.NativeEndian.Uint64(rows[at:])
		}
	}
	n.Missed = missed.hook
	if c.atReturn { // of what returned unseen, that which had begun is abandoned sooner or later, and has a record
		n.Missed = less(less(missed.hook, rescued), abandoned) + unseenLost
	}
	n.Missed += missed.raw
	n.MissedReturn = abandoned + noVerdict + missed.kretprobe
	n.ProcessSeen += missed.process
	n.ProcessLost += missed.process
	n.OutcomeSeen += missed.outcome
	n.OutcomeLost += missed.outcome
	n.EventSeen += missed.event
	n.EventLost += missed.event
	return n.since(&c.base).plus(&c.past), nil
}

// Loser is a process whose attempts found no room in the connect ring, or all children of one.
type Loser struct {
	Attempts           uint64
	First, Last        uint64 // of them, ns CLOCK_BOOTTIME
	Start, ParentStart uint64 // as in ProcessKey
	Tgid, ParentTgid   uint32
	UID                uint32        // of the first attempt
	Children           bool          // Start and Tgid are those of a parent whose children lost
	Comm               [commLen]byte // of the first attempt, NUL-padded
}

// decode reads a struct loser of fair.h.
func (l *Loser) decode(b []byte) {
	n := binary.NativeEndian
	*l = Loser{
		Attempts: n.Uint64(b[0:]), First: n.Uint64(b[8:]), Last: n.Uint64(b[16:]), Start: n.Uint64(b[24:]), ParentStart: n.Uint64(b[32:]),
		Tgid: n.Uint32(b[40:]), ParentTgid: n.Uint32(b[44:]), UID: n.Uint32(b[48:]), Children: n.Uint32(b[52:]) != 0,
		Comm: [commLen]byte(b[56:72]),
	}
}

// Losers calls fn for every process that lost attempts to a full ring since it was called last, as far as the kernel had
// room to note them: Counters has the number of all. A place that was not counted up meanwhile is freed.
func (c *Capture) Losers(fn func(*Loser)) error {
	memory, err := c.collection.Maps["connect_losers"].Memory()
	if err != nil {
		return fmt.Errorf("map losers: %w", err)
	}
	rows := make([]byte, memory.Size())
	if _, err := memory.ReadAt(rows, 0); err != nil {
		return fmt.Errorf("read losers: %w", err)
	}
	before := c.losers
	c.losers = map[int]Loser{}
	for at := 0; at+loserSize <= len(rows); at += loserSize {
		var l Loser
		if l.decode(rows[at : at+loserSize]); l.Attempts == 0 {
			continue
		}
		old := before[at]
		if old.Start != l.Start || old.Tgid != l.Tgid || old.First != l.First {
			old = Loser{}
		}
		if old.Attempts == l.Attempts {
			if _, err := memory.WriteAt(make([]byte, 8), int64(at)); err != nil {
				return fmt.Errorf("free a loser's place: %w", err)
			}
			continue
		}
		c.losers[at] = l
		l.Attempts -= old.Attempts
		l.First = max(l.First, old.Last)
		fn(&l)
	}
	return nil
}

// less is a - b, and not below 0.
func less(a, b uint64) uint64 { return a - min(a, b) }
