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
	if e.Task == nil || e.Task.Process == nil || e.Shape == nil {
		return errIncomplete
	}
	task, ok := e.Task.mark.get(s.intern.epoch)
	var err error
	if !ok {
		if task, err = s.intern.addTask(e.Task); err != nil {
			return err
		}
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
	for id := s.at(e.BootTime); ; id++ {
		err := s.exec(`INSERT OR IGNORE INTO event (id, batch, window, task, shape, local, remote, peer_pid, count, last_ns, ended, failed, sent, received, longest)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			id, s.chainer.batch, s.at(e.Window), task, shape, local, remote, segment.NumberOrNull(uint64(e.PeerPID)), e.Count,
			max(id, s.at(max(e.BootTime, e.LastBootTime))), e.Ended, e.Failed, sent, received, longest)
		if err != nil {
			return err
		}
		if s.conn.Changes() == 1 {
			s.chainer.events = append(s.chainer.events, id)
			return nil
		}
	}
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
