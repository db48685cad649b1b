package store

import (
	"fmt"

	"github.com/conntape/conntape/store/segment"
)

// SocketEvent is what a socket did beside connecting, or several that are alike: the Via of its shape says what. What a segment
// says of one window, task, local and remote address, peer and shape is one row of the view.
type SocketEvent struct {
	BootTime     uint64 // ns of CLOCK_BOOTTIME
	LastBootTime uint64 // of the last of Count; 0 the same
	Window       uint64 // BootTime of the first event of all that are told together

	Task    *Task
	Shape   *Shape
	Local   *Endpoint // nil not bound
	Remote  *Endpoint // nil none, or not kept
	PeerPID uint32    // of the process at the other end of a UNIX socket, 0 unknown

	Count  uint64 // 0: it only tells what became of earlier ones
	Ended  uint64 // of all that were accepted, those that ended since it was last said
	Failed uint64 // of these, by an error

	// Of those that ended: bytes, and the longest time from accept to end in ns.
	Sent, Received, Longest uint64

	Lookup *Lookup // of an answer by DNS, or of a name that a client sent; else nil
	NetNS  uint64  // of such, where Task is nil: inode of the network namespace, 0 unknown
}

// Lookup is a name that was asked for, and the answer; or one by which a client called the server. All texts are escaped.
type Lookup struct {
	Name    string // "": of several, whose names are not kept; then nothing else is told
	Type    uint32 // of the records that were asked for; LookupSNI, LookupHost
	Rcode   uint16
	Answers string // records, with a space between two; of LookupSNI what else the client said
	TTL     int64  // seconds, -1 no record
}

// Types of a lookup that are none of DNS, which have 16 bits.
const (
	LookupSNI  = 1<<16 + iota // server_name of a TLS ClientHello
	LookupHost                // Host of an HTTP request
)

// columns returns the values of question, asked, rcode, answers and ttl.
func (l *Lookup) columns() [5]any {
	if l == nil {
		return [5]any{}
	}
	if l.Name == "" {
		return [5]any{1: int64(0)}
	}
	rcode := any(int64(l.Rcode))
	if l.Type >= LookupSNI {
		rcode = nil
	}
	return [5]any{l.Name, int64(l.Type), rcode, l.Answers, segment.SetOrNull(l.TTL)}
}

// writeSocketEvents writes those of a batch.
func (s *activeSegment) writeSocketEvents(events []SocketEvent) error {
	for i := range events {
		if err := s.writeSocketEvent(&events[i]); err != nil {
			return fmt.Errorf("write socket event: %w", err)
		}
	}
	return nil
}

func (s *activeSegment) writeSocketEvent(e *SocketEvent) error {
	if (e.Task == nil || e.Task.Process == nil) && e.Lookup == nil || e.Shape == nil {
		return errIncomplete
	}
	task, err := s.intern.taskOrNull(e.Task)
	if err != nil {
		return err
	}
	shape, err := s.intern.addShape(e.Shape)
	if err != nil {
		return err
	}
	local, err := s.intern.endpointOrNull(e.Local)
	if err != nil {
		return err
	}
	remote, err := s.intern.endpointOrNull(e.Remote)
	if err != nil {
		return err
	}
	var sent, received, longest any
	if e.Ended > 0 {
		sent, received, longest = int64(e.Sent), int64(e.Received), int64(e.Longest)
	}
	looked := e.Lookup.columns()
	for id := s.at(e.BootTime); ; id++ {
		err := s.exec(`INSERT OR IGNORE INTO event (id, batch, window, task, shape, local, remote, peer_pid, count, last_ns, ended, failed, sent, received, longest,
				question, asked, rcode, answers, ttl, netns)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			id, s.chainer.batch, s.at(e.Window), task, shape, local, remote, segment.NumberOrNull(uint64(e.PeerPID)), e.Count,
			max(id, s.at(max(e.BootTime, e.LastBootTime))), e.Ended, e.Failed, sent, received, longest,
			looked[0], looked[1], looked[2], looked[3], looked[4], segment.NumberOrNull(e.NetNS))
		if err != nil {
			return err
		}
		if s.conn.Changes() == 1 {
			s.chainer.events = append(s.chainer.events, id)
			return nil
		}
	}
}

// taskOrNull returns the row of a task, nil without one.
func (in *interner) taskOrNull(t *Task) (any, error) {
	if t == nil {
		return nil, nil
	}
	if id, ok := t.mark.get(in.epoch); ok {
		return id, nil
	}
	return in.addTask(t)
}

// endpointOrNull returns the row of an endpoint, nil without one.
func (in *interner) endpointOrNull(e *Endpoint) (any, error) {
	if e == nil {
		return nil, nil
	}
	if id, ok := e.mark.get(in.epoch); ok {
		return id, nil
	}
	return in.addEndpoint(e)
}
