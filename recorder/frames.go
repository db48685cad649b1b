package recorder

import (
	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
)

// frames is whether what is sent through packet sockets is watched. It belongs to the draining goroutine.
type frames struct {
	watched bool
	failed  bool   // that was told
	next    uint64 // when to look whether a packet socket is open still, ns CLOCK_BOOTTIME
}

// packetSocketOpened has frames watched from now on. Without that recording goes on all the same.
func (r *recorder) packetSocketOpened(now uint64) {
	f := &r.frames
	if f.watched {
		return
	}
	if err := r.src.WatchFrames(true); err != nil {
		if !f.failed {
			r.log.Warn("what is sent through packet sockets is not recorded", "error", err)
		}
		f.failed = true
		return
	}
	f.watched, f.next = true, now+uint64(r.config.refreshEvery)
}

// lookForPacketSockets ends that when none is open any more.
func (r *recorder) lookForPacketSockets(now uint64) {
	f := &r.frames
	if !f.watched || now < f.next {
		return
	}
	f.next = now + uint64(r.config.refreshEvery)
	open := false
	err := r.src.FoundSockets(func(c *bpf.Connect) { open = open || isPacketSocket(c) })
	if err == nil && !open {
		f.watched = false
		err = r.src.WatchFrames(false)
	}
	if err != nil {
		r.log.Warn("packet sockets not looked for", "error", err)
	}
}

// isPacketSocket tells whether an event is that a packet socket was made, or was there.
func isPacketSocket(c *bpf.Connect) bool {
	return c.Via == bpf.ViaSocket && c.SocketFamily == unix.AF_PACKET
}
