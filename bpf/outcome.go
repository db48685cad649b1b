package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
)

// OutcomeKind tells what happened to a connection.
type OutcomeKind uint8

// The values of enum outcome_kind in record.h.
const (
	OutcomeEstablished OutcomeKind = 1 // the handshake is done
	OutcomeClosed      OutcomeKind = 2 // the connection is over, or never came about
	OutcomeOpen        OutcomeKind = 3 // the connection is open: what came of it so far
	OutcomeConnecting  OutcomeKind = 4 // likewise, and there is no answer yet
	OutcomeError       OutcomeKind = 5 // an ICMP error came back to a connected UDP socket; Attempt is not known, Cookie is
)

// ClosedBy tells who sent the first FIN.
type ClosedBy uint8

// The values of enum closed_by in record.h.
const (
	ClosedByNobody ClosedBy = iota // nobody yet, or it ended without a FIN
	ClosedByLocal
	ClosedByRemote
)

// TCPState is a state of RFC 9293, as the kernel numbers them (include/net/tcp_states.h).
type TCPState uint8

// The states that a connection of ours can end in.
const (
	TCPEstablished TCPState = 1
	TCPSynSent     TCPState = 2
	TCPSynReceived TCPState = 3
	TCPFinWait1    TCPState = 4
	TCPFinWait2    TCPState = 5
	TCPCloseWait   TCPState = 8
	TCPLastAck     TCPState = 9
	TCPClosing     TCPState = 11
)

// Outcome is what became of an attempt on a TCP socket whose Connect has the same BootTime, Tid and Cookie. Of each there
// are at most two: when it was established, and when it was over.
type Outcome struct {
	BootTime    uint64 // of the change, ns CLOCK_BOOTTIME
	Attempt     ID     // of the attempt
	Cookie      uint64 // of the attempt; 0 unknown
	Established uint64 // ns CLOCK_BOOTTIME; 0 never
	Sent        uint64 // bytes that the peer has acknowledged, each once
	Received    uint64 // bytes in order, each once
	Retransmits uint32 // segments sent again
	RTT         uint32 // us, smoothed, when it was established; 0 not measured
	Errno       uint16 // the socket's pending error at the change; 0 none
	Kind        OutcomeKind
	From        TCPState // before the change
	ClosedBy    ClosedBy
	Accepted    bool // Attempt is the ID of its ViaAccept
	Local       netip.AddrPort
}

// decode reads a struct outcome of record.h.
func (o *Outcome) decode(b []byte) error {
	if len(b) < outcomeSize {
		return fmt.Errorf("decode outcome of %d bytes: %w", len(b), ErrShortRecord)
	}
	n := binary.NativeEndian
	*o = Outcome{
		BootTime: n.Uint64(b[0:]), Attempt: ID{BootTime: n.Uint64(b[8:]), Tid: n.Uint32(b[48:])}, Cookie: n.Uint64(b[16:]),
		Established: n.Uint64(b[24:]), Sent: n.Uint64(b[32:]), Received: n.Uint64(b[40:]),
		Retransmits: n.Uint32(b[52:]), RTT: n.Uint32(b[56:]), Errno: n.Uint16(b[62:]),
		Kind: OutcomeKind(b[64]), From: TCPState(b[65]), ClosedBy: ClosedBy(b[66]), Accepted: b[67] != 0,
	}
	address := netip.AddrFrom16([16]byte(b[72:88]))
	if n.Uint16(b[68:]) == afInet {
		address = netip.AddrFrom4([4]byte(b[72:76]))
	}
	o.Local = netip.AddrPortFrom(address, n.Uint16(b[60:]))
	return nil
}

const afInet = 2

// ReadOutcome takes the next outcome without waiting. It returns false when there is none. The Connect that an outcome
// belongs to may come after it: connect(2) returns later than the handshake is done.
func (c *Capture) ReadOutcome(o *Outcome) (bool, error) {
	ok, err := c.readLeft(leftOutcomes, func(l *left, b []byte) (bool, error) {
		err := o.decode(b)
		return !l.isTwin(o), err
	})
	if ok || err != nil {
		return ok, err
	}
	c.outcome, err = c.outcomes.read(c.outcome)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	if err == nil {
		err = o.decode(c.outcome)
	}
	return err == nil, err
}
