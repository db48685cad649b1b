package generate

import (
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// plantBackground adds n ordinary connections over the whole span, more by day than by night.
func (s *Stream) plantBackground(n int) {
	const swing = 0.7
	mean := float64(s.o.Span) / float64(n) / math.Sqrt(1-swing*swing) // 1/(1+swing·sin) has the mean 1/√(1-swing²)
	s.add(&event{
		at: s.o.Begin,
		next: func(at uint64) store.Connection {
			p := s.host.someone(at, s.o)
			return s.host.connect(p, s.host.somewhere(p))
		},
		after: func(at uint64) uint64 {
			hour := float64(at%uint64(24*time.Hour)) / float64(time.Hour)
			wave := 1 + swing*math.Sin(2*math.Pi*hour/24)
			return at + uint64(s.random.ExpFloat64()*mean*wave)
		},
	})
}

// someone picks the process that connects: mostly a daemon, a few of them far more often; else a recently started process.
func (h *host) someone(at uint64, o Options) *process {
	if len(h.passing) == 0 || len(h.daemons) > 0 && h.random.IntN(10) < 7 {
		return h.daemons[skewed(h.random, len(h.daemons))]
	}
	started := int(float64(len(h.passing)) * float64(at-o.Begin) / float64(o.Span))
	return h.passing[min(max(0, started-skewed(h.random, 20)), len(h.passing)-1)]
}

// somewhere picks the endpoint: mostly a usual peer of the program, else any.
func (h *host) somewhere(p *process) *store.Endpoint {
	if peers := p.image.peers; h.random.IntN(4) > 0 {
		return h.endpoints[peers[skewed(h.random, len(peers))]]
	}
	return h.endpoints[h.popular.Uint64()]
}

// skewed returns a number below n; small numbers are much more frequent.
func skewed(random *rand.Rand, n int) int {
	f := random.Float64()
	return int(f * f * f * float64(n))
}

// connect is one connect of a process, with a usual outcome.
func (h *host) connect(p *process, to *store.Endpoint) store.Connection {
	return store.Connection{
		Task:   p.tasks[skewed(h.random, len(p.tasks))],
		Remote: to,
		Shape:  h.usual(to),
		FD:     int32(3 + skewed(h.random, 120)),
	}
}

// usual returns the usual socket for this endpoint, mostly with success.
func (h *host) usual(to *store.Endpoint) *store.Shape {
	s := store.Shape{SocketFamily: to.Family, Type: unix.SOCK_STREAM, Via: "connect", AddressSource: "kernel", Backend: "fexit", Addrlen: int32(len(to.Raw))}
	switch {
	case to.Family == unix.AF_UNIX:
	case to.Port == 53 || to.Port == 123:
		s.Type, s.Protocol = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	default:
		s.Protocol = unix.IPPROTO_TCP
		switch n := h.random.IntN(100); {
		case n < 60:
			s.Errno = int32(unix.EINPROGRESS)
		case n < 63:
			s.Errno = int32(unix.ECONNREFUSED)
		case n < 64:
			s.Errno = int32(unix.ETIMEDOUT)
		}
	}
	return h.shape(s)
}

// ended is a TCP connect with a given outcome.
func (h *host) ended(p *process, to *store.Endpoint, errno unix.Errno) store.Connection {
	c := h.connect(p, to)
	s := *c.Shape
	s.Type, s.Protocol, s.Errno = unix.SOCK_STREAM, unix.IPPROTO_TCP, int32(errno)
	c.Shape = h.shape(s)
	return c
}
