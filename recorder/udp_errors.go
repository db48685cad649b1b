package recorder

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
)

// The kernel tells of an ICMP error which socket it came back to, and when, but not which connect it is about: a program may connect one
// UDP socket to several peers, one after another. The error is about the last connect before it, whatever was read first: errors and
// connects come through different rings.

const (
	// mostSockets is how many UDP sockets each of two generations remembers.
	mostSockets = 8 << 10
	// mostConnects bounds the connects that are remembered of one socket: half of them go when there are more.
	mostConnects = 8
	// mostErrors bounds the errors that wait for the record of a connect.
	mostErrors = 8 << 10
)

// udpErrors tells which connects errors are about. It belongs to the draining goroutine.
type udpErrors struct {
	sockets *generations[uint64, []bpf.ID] // connects that have rows of their own, by cookie, in the order of time
	waiting []waitingError                 // errors of which the connect may be in the ring still, in the order of since
}

type waitingError struct {
	bpf.Outcome
	since uint64 // ns CLOCK_BOOTTIME
}

func newUDPErrors() udpErrors {
	return udpErrors{sockets: newGenerations[uint64, []bpf.ID](mostSockets)}
}

// followErrors remembers a UDP socket that has a row of its own: an error that comes back to it is what became of that.
func (r *recorder) followErrors(c *bpf.Connect) {
	if c.Via.IsSend() || c.Cookie == 0 || (c.Protocol != unix.IPPROTO_UDP && c.Protocol != unix.IPPROTO_UDPLITE) || (c.SocketFamily != unix.AF_INET && c.SocketFamily != unix.AF_INET6) {
		return
	}
	e := &r.fates.errors
	connects, _ := e.sockets.get(c.Cookie)
	if len(connects) >= mostConnects {
		connects = append(connects[:0], connects[mostConnects/2:]...)
	}
	id := c.ID()
	at := len(connects)
	for at > 0 && connects[at-1].BootTime > id.BootTime { // threads that share a socket: their records may change places
		at--
	}
	e.sockets.put(c.Cookie, slices.Insert(connects, at, id))
}

// about returns the last connect of a socket before an error.
func (e *udpErrors) about(o *bpf.Outcome) (bpf.ID, bool) {
	connects, _ := e.sockets.get(o.Cookie)
	for _, id := range slices.Backward(connects) {
		if id.BootTime <= o.BootTime {
			return id, true
		}
	}
	return bpf.ID{}, false
}

// takeError takes an error that came back to a UDP socket. If the record of its connect may not have been read, it waits.
func (r *recorder) takeError(o *bpf.Outcome, now uint64) {
	e := &r.fates.errors
	if o.BootTime > r.horizon && len(e.waiting) < mostErrors {
		e.waiting = append(e.waiting, waitingError{*o, now})
		return
	}
	r.joinError(o, now)
}

// joinError gives an error to its connect.
func (r *recorder) joinError(o *bpf.Outcome, now uint64) {
	attempt, known := r.fates.errors.about(o)
	if !known { // of a row of several, or of too long ago
		r.ledger.outcomes.coalesced++
		return
	}
	o.Attempt = attempt
	r.placeOutcome(o, now)
}

// joinErrors joins the errors of which the connect has been read by now, or those that waited too long; all: every one.
func (r *recorder) joinErrors(now uint64, all bool) {
	e := &r.fates.errors
	n := 0
	for n < len(e.waiting) && (all || e.waiting[n].BootTime <= r.horizon || e.waiting[n].since+connectComes <= now) {
		r.joinError(&e.waiting[n].Outcome, now)
		n++
	}
	e.waiting = slices.Delete(e.waiting, 0, n)
}
