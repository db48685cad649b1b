package recorder

import (
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// source is what the recorder needs of a capture. *bpf.Capture is one; tests script another.
//
// Order is the contract that everything here rests on: a process record that a connect needs is in the process ring
// before that connect is in the connect ring.
type source interface {
	Backend() bpf.Backend
	BlindSpots() []string
	// Snapshot calls fn for every process alive, without argv. The record is good only until fn returns.
	Snapshot(fn func(*bpf.Process)) error
	// ReadConnect returns what the ring holds, deadline passed or not; os.ErrDeadlineExceeded means that it is empty, and
	// may come before the deadline.
	ReadConnect(deadline time.Time, rec *bpf.Connect) error
	// Sleep has ReadConnect return as soon as the next attempt begins; Interrupt, called by anyone, at once.
	Sleep() error
	Interrupt()
	// Unread is how many bytes the ring holds. RingHolders are the processes that have it open besides us.
	Unread() int
	RingHolders() []string
	// ReadProcess never blocks; false means that the ring is empty.
	ReadProcess(rec *bpf.Process) (bool, error)
	// ReadOutcome never blocks; false means that the ring is empty. The attempt that an outcome is of may come after it.
	ReadOutcome(*bpf.Outcome) (bool, error)
	// OpenSockets calls fn for every socket that is followed, as often as it has descriptors; with adopt it first follows those
	// that were connected before.
	OpenSockets(adopt bool, fn func(*bpf.OpenSocket)) error
	// FoundSockets calls fn with what ReadEvent would have told of sockets that are there already.
	FoundSockets(fn func(*bpf.Connect)) error
	// ReadEvent never blocks; false means that the ring is empty. What a process record has to have for it is in that ring before.
	ReadEvent(*bpf.Connect) (bool, error)
	// ReadAnswer never blocks; false means that the ring is empty. The connect of the socket that got it, or its first send, is in
	// the ring of connects before; and a connect that it led to is not.
	ReadAnswer(*bpf.Answer) (bool, error)
	// WatchFrames says whether a packet socket is open, through which frames can be sent.
	WatchFrames(open bool) error
	// Sends tells how many sends without connect there were that no record tells of: before the last NextSends, or with all, after
	// Detach, since. NextSends ends an interval of them.
	Sends(all bool, fn func(*bpf.SendCount)) error
	NextSends() error
	// InFlight calls fn for every attempt that has begun and not returned.
	InFlight(fn func(*bpf.Connect)) error
	Counters() (bpf.Counters, error)
	// Losers calls fn for who lost attempts to a full ring since it was called last. Counters has them all, Losers maybe not.
	Losers(fn func(*bpf.Loser)) error
	// Watch mends what somebody did to the hooks, says it, and returns bpf.ErrBlind where it cannot. Probe connects, so that
	// the hooks can be seen to see it; Checks are the connects that were made so before the recorder began.
	Watch() (gone []string, err error)
	Probe() ([]bpf.Probe, error)
	Checks() []bpf.Probe
	// Touched is what somebody did to this process since it was called last.
	Touched() ([]bpf.Touch, error)
	// Detach ends the capture; rings, in-flight map and counters stay readable, so that the last of each can agree.
	Detach() error
	Close() error
}

// sink is what the recorder needs of a tape. *store.Writer is one.
type sink interface {
	Append(store.Batch) error
	// CheckPlace tells whether the directory of the tape and its lock are where they were. Any goroutine may call it.
	CheckPlace() error
	// KeepShares keeps a small text for the next recorder of the tape.
	KeepShares(text []byte) error
	// OldestKept is the first moment that the tape still tells of; zero: not known.
	OldestKept() time.Time
	Close(stop store.Gap, c segment.Counters) error
}
