package bpf

import (
	"fmt"
	"slices"
)

const (
	unseenFrames  = "what is sent through packet sockets: this kernel does not take the programs"
	pagedFrames   = "addresses of frames whose IP header is in a page that a program cannot read (TX_RING, frames longer than a page): the row has the device and the protocol"
	betweenFrames = "what is sent through packet sockets between two recorders: the program for that runs for each packet of the host, and is not kept"
	lateFrames    = "what is sent through the first packet socket of the host until the recorder, which is woken for that, has attached its program: milliseconds, on a busy host tenths of a second"
	unseenDirect  = "what is sent through packet sockets with PACKET_QDISC_BYPASS (sockets_opened has who set it): this kernel has no kprobes, or not the function"
)

// frameSenders are the programs that see each frame of a packet socket in a function of these sockets alone.
var frameSenders = []string{"fentry_frame", "kprobe_frame"}

// queueHook is that of all packets of the host. Each of them pays for it.
var queueHook = hook{program: "frame_queued"}

// frameHooks appends those of frames that are sent through packet sockets.
func frameHooks(hooks []hook, b Backend, k *kernel) []hook {
	switch sends := k.hasFunc("packet_xmit"); {
	case sends && b == Fexit:
		return append(hooks, hook{program: "fentry_frame"})
	case sends:
		hooks = append(hooks, hook{program: "kprobe_frame", how: kprobe, target: "packet_xmit", mayFail: true})
	}
	direct := "__dev_direct_xmit"
	if !k.hasFunc(direct) {
		direct = "dev_direct_xmit"
	}
	return append(hooks, hook{program: "kprobe_direct", how: kprobe, target: direct, mayFail: true, unless: "kprobe_frame"})
}

// WatchFrames says whether a packet socket is open: only then are programs attached that run for each packet of the host. Where the kernel has
// a function of packet sockets alone it does nothing.
func (c *Capture) WatchFrames(open bool) (err error) {
	switch {
	case !open:
		return c.closeFrames()
	case c.frames != nil || !c.needsFrames():
		return nil
	}
	if c.frames, err = c.link(queueHook); err != nil {
		return fmt.Errorf("attach %s: %w", queueHook.program, err)
	}
	return nil
}

// closeFrames detaches what WatchFrames attached.
func (c *Capture) closeFrames() error {
	l := c.frames
	if l == nil {
		return nil
	}
	c.frames = nil
	if err := l.Close(); err != nil {
		return fmt.Errorf("detach %s: %w", queueHook.program, err)
	}
	return nil
}

// needsFrames tells whether frames are to be recorded, and no function of packet sockets alone tells of them.
func (c *Capture) needsFrames() bool {
	return c.options.Events.Sends && !c.hasAttached(frameSenders...)
}

func (c *Capture) hasAttached(programs ...string) bool {
	return slices.ContainsFunc(c.attached, func(a attachment) bool { return slices.Contains(programs, a.hook.program) })
}

// tryFrames looks whether WatchFrames will do. Where nobody tells of sockets that are opened, it watches at once.
func (c *Capture) tryFrames() error {
	if !c.needsFrames() {
		return nil
	}
	if err := c.WatchFrames(true); err != nil {
		c.addBlindSpot(unseenFrames)
		return nil
	}
	if !c.hasAttached("kprobe_direct") {
		c.addBlindSpot(unseenDirect)
	}
	if c.options.Pin != "" {
		c.addBlindSpot(betweenFrames)
	}
	if !c.options.Events.Sockets {
		return nil
	}
	c.addBlindSpot(lateFrames)
	return c.WatchFrames(false)
}
