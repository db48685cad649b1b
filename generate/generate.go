// Package generate makes up the connections of a host: processes of some programs, a few endpoints that most connects go
// to and many rare ones, and harmless periodic traffic. It can plant an intrusion, and then tells what a query has to
// find. The same options give the same connections.
//
// It knows the rows of a tape, not their storage.
package generate

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/conntape/conntape/store"
)

// Options say how many of everything to make.
type Options struct {
	Seed        uint64
	Connections int           // in all
	Processes   int           // 10 at least
	Images      int           // different programs that the processes run, 5 at least
	Endpoints   int           // 50 at least; the intrusion adds some
	Begin       uint64        // first moment, ns of CLOCK_BOOTTIME
	Span        time.Duration // the last connection is near its end
	Intrusion   bool
	Story       bool    // a staged intrusion whose steps lead from one to the next, as in docs/investigation.md
	Timers      []Timer // added to everything else
	Mapped      bool    // a third of the connects to IPv4 come from IPv6 sockets, to ::ffff:192.0.2.1
	InFlight    int     // a third of this many connections before a rotation is written after it, so that segments overlap in time
}

// Issue5 is the tape of the query benchmarks.
func Issue5() Options {
	return Options{
		Seed: 5, Connections: 10_000_000, Processes: 2000, Images: 120, Endpoints: 40_000,
		Begin: uint64(time.Hour), Span: 8 * 24 * time.Hour, Intrusion: true,
	}
}

// Stream hands out connections in time order.
type Stream struct {
	o       Options
	random  *rand.Rand
	host    *host
	planted []Planted
	events  events
	left    int
	cookie  uint64
	last    uint64
	row     store.Connection
	mapped  map[*store.Endpoint]*store.Endpoint
	web     *store.Process // the web server's worker, of a story
}

// New prepares a host. Only the seed decides what is random.
func New(o Options) *Stream {
	s := &Stream{o: o, random: rand.New(rand.NewPCG(o.Seed, 0x636f6e6e74617065)), left: o.Connections}
	s.host = newHost(o, s.random)
	planned := s.plantPeriodic()
	if o.Intrusion {
		planned += s.plantIntrusion()
	}
	if o.Story {
		planned += s.plantStory()
	}
	for i := range o.Timers {
		planned += s.plantOwn(&o.Timers[i])
	}
	s.plantBackground(max(o.Connections-planned, 1))
	return s
}

// Planted returns what queries have to find, and the harmless traffic that looks like it.
func (s *Stream) Planted() []Planted { return s.planted }

// Next returns the next connection, valid until the next call, or false after the last.
func (s *Stream) Next() (*store.Connection, bool) {
	if s.left == 0 {
		return nil, false
	}
	s.left--
	e := s.events[0]
	s.row = e.next(e.at)
	s.row.BootTime = max(e.at, s.last+1)
	s.last = s.row.BootTime
	s.cookie++
	s.row.Cookie = s.cookie
	if s.o.Mapped && s.cookie%3 == 0 {
		s.row.Remote = s.asIPv6(s.row.Remote)
	}
	if e.at = e.after(e.at); e.at == never {
		heap.Pop(&s.events)
	} else {
		heap.Fix(&s.events, 0)
	}
	return &s.row, true
}

// Batch appends up to n connections to rows.
func (s *Stream) Batch(rows []store.Connection, n int) []store.Connection {
	for range n {
		c, ok := s.Next()
		if !ok {
			break
		}
		rows = append(rows, *c)
	}
	return rows
}

// end is the end of the span.
func (s *Stream) end() uint64 { return s.o.Begin + uint64(s.o.Span) }

// never is later than everything.
const never = ^uint64(0)

// An event is one source of connections: the time of the next one, and a function that makes it and sets the time after.
type event struct {
	at    uint64
	next  func(at uint64) store.Connection
	after func(at uint64) uint64
}

// add adds a source.
func (s *Stream) add(e *event) { heap.Push(&s.events, e) }

// events is a heap by time.
type events []*event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(*event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}
