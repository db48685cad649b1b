package generate

import (
	"net/netip"
	"time"

	"github.com/conntape/conntape/store"
)

// Timer is a program that connects to one place at given moments.
type Timer struct {
	Exe    string
	Remote netip.AddrPort
	At     []time.Duration // after Begin, rising
}

// plantOwn adds a timer. It returns how many connections that are.
func (s *Stream) plantOwn(t *Timer) int {
	if len(t.At) == 0 {
		return 0
	}
	at := func(i int) uint64 { return s.o.Begin + uint64(t.At[i]) }
	p := s.host.newProcess(&image{path: t.Exe, threads: 1}, s.o.Begin)
	to := inet(t.Remote.Addr(), t.Remote.Port())
	n := 0
	s.add(&event{
		at:   at(0),
		next: func(uint64) store.Connection { return s.host.connect(p, to) },
		after: func(uint64) uint64 {
			if n++; n == len(t.At) {
				return never
			}
			return at(n)
		},
	})
	return len(t.At)
}
