package generate

import (
	"net/netip"
	"time"

	"github.com/conntape/conntape/store"
)

// Timer is a program that connects to one endpoint at given moments.
type Timer struct {
	Exe    string
	Remote netip.AddrPort
	At     []time.Duration // since Begin, ascending
	Sent   []int64         // bytes sent over each connection; nil: unknown
}

// plantOwn adds a timer and returns its number of connections.
func (s *Stream) plantOwn(t *Timer) int {
	if len(t.At) == 0 {
		return 0
	}
	at := func(i int) uint64 { return s.o.Begin + uint64(t.At[i]) }
	p := s.host.newProcess(&image{path: t.Exe, threads: 1}, s.o.Begin)
	to := inet(t.Remote.Addr(), t.Remote.Port())
	n := 0
	s.add(&event{
		at: at(0),
		next: func(uint64) store.Connection {
			c := s.host.connect(p, to)
			if t.Sent != nil {
				c.Outcome = sentOnly(t.Sent[n])
			}
			return c
		},
		after: func(uint64) uint64 {
			if n++; n == len(t.At) {
				return never
			}
			return at(n)
		},
	})
	return len(t.At)
}

// sentOnly is an outcome of which nothing else is known.
func sentOnly(bytes int64) *store.Outcome {
	const no = store.Unmeasured
	return &store.Outcome{Established: no, Duration: no, Sent: bytes, Received: no, Retransmits: no, RTT: no}
}
