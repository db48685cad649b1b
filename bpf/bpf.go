// Package bpf records connect attempts and the lives of processes in the kernel, and hands them over as typed records.
//
// It chooses among three backends by loading and attaching them, and knows what each cannot see. It knows nothing of
// tapes or SQL, and never looks at /proc for what the kernel can tell at the moment it happens.
package bpf

import (
	"errors"
	"log/slog"
	"time"
)

// Backend names what feeds the recorder.
type Backend string

// The backends, in the order in which they are tried.
const (
	Fexit  Backend = "fexit"  // a trampoline at the end of security_socket_connect
	Kprobe Backend = "kprobe" // a kprobe and a kretprobe on security_socket_connect
	Cgroup Backend = "cgroup" // cgroup/connect4, connect6 and connect_unix, with the tracepoint of connect(2)
)

// Backends lists them in the order in which they are tried.
func Backends() []Backend { return []Backend{Fexit, Kprobe, Cgroup} }

// Options say how to capture. The zero value is good.
type Options struct {
	Backend          Backend // "" takes the first that attaches
	RingBytes        uint32  // size of the connect ring, a power of two and a multiple of the page size; 0 is 16 MiB
	ProcessRingBytes uint32  // likewise of the process ring; 0 is 8 MiB
	Logger           *slog.Logger
}

// Counters are the kernel's own counts since Open, summed over CPUs.
type Counters struct {
	Seen         uint64 // attempts that a hook saw begin, reissues included
	Sent         uint64 // records put into the ring, one an attempt
	LostRing     uint64 // attempts whose record found the ring full
	Reissued     uint64 // io_uring issued the same request again: in Seen and Sent, not an attempt of its own
	InFlightFull uint64 // sent at the hook without a return value, since too many were blocked at once
	NotAttempted uint64 // connect(2) that failed before any hook: bad fd, not a socket, bad address pointer or length
	Missed       uint64 // times a program did not run: kretprobe instances or recursion
	ProcessSeen  uint64 // exec, fork and exit
	ProcessSent  uint64
	ProcessLost  uint64 // the process ring was full
}

// Capture is an attached backend.
type Capture struct{}

func Open(o Options) (*Capture, error)                                { return nil, errors.ErrUnsupported }
func (c *Capture) Backend() Backend                                   { return "" }
func (c *Capture) BlindSpots() []string                               { return nil }
func (c *Capture) Snapshot(fn func(*Process)) error                   { return errors.ErrUnsupported }
func (c *Capture) ReadConnect(deadline time.Time, rec *Connect) error { return errors.ErrUnsupported }
func (c *Capture) ReadProcess(rec *Process) (bool, error)             { return false, errors.ErrUnsupported }
func (c *Capture) InFlight(fn func(*Connect)) error                   { return errors.ErrUnsupported }
func (c *Capture) Counters() (Counters, error)                        { return Counters{}, errors.ErrUnsupported }
func (c *Capture) Close() error                                       { return nil }
