package bpf

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/cilium/ebpf/link"
)

// A kretprobe instance is held while its function runs. 4096 is the most that tracefs allows (KRETPROBE_MAXACTIVE_MAX).
const kretprobeInstances = 4096

// attach attaches a hook and keeps its link.
func (c *Capture) attach(h hook) error {
	if h.unless != "" && slices.ContainsFunc(c.attached, func(a attachment) bool { return a.hook.program == h.unless }) {
		return nil
	}
	l, err := c.link(h)
	switch {
	case err != nil && h.mayFail:
		c.addBlindSpot(h.unseen)
		return nil
	case err != nil:
		return err
	}
	if h.unless != "" {
		c.addBlindSpot(h.unseen)
	}
	c.attached = append(c.attached, attachment{hook: h, link: l})
	return nil
}

// addBlindSpot says it once.
func (c *Capture) addBlindSpot(unseen string) {
	if unseen != "" && !slices.Contains(c.blindSpots, unseen) {
		c.blindSpots = append(c.blindSpots, unseen)
	}
}

// link attaches a hook. The program is attached until the link is closed.
func (c *Capture) link(h hook) (l link.Link, err error) {
	prog := c.collection.Programs[h.program]
	switch h.how {
	case tracing:
		l, err = link.AttachTracing(link.TracingOptions{Program: prog})
	case lsm:
		l, err = link.AttachLSM(link.LSMOptions{Program: prog})
	case kprobe:
		l, err = link.Kprobe(h.target, prog, nil)
	case kretprobe:
		if err = mountTracefs(); err == nil {
			l, err = link.Kretprobe(h.target, prog, &link.KprobeOptions{RetprobeMaxActive: kretprobeInstances, TraceFSPrefix: "conntape"})
		}
	case tracepoint:
		if err = mountTracefs(); err == nil {
			l, err = link.Tracepoint(h.group, h.target, prog, nil)
		}
	case cgroup:
		var root *cgroupRoot
		if root, err = openCgroupRoot(); err == nil {
			l, err = link.AttachCgroup(link.CgroupOptions{Path: root.path, Attach: h.attach, Program: prog})
			root.close()
		}
	}
	return l, err
}

var errUnseen = errors.New("it attaches, but does not see a connect")

// check makes a connect of our own and looks whether it was seen, and whether its return was: there are kernels on which
// a hook attaches and never fires, and builds in which the compiler has inlined the function whose return we want. The
// connect sends nothing: it only sets the peer of a UDP socket, to the discard port of the loopback.
func (c *Capture) check(returns []hook) error {
	runtime.LockOSThread() // the second connect sends what the first has left in flight, if it is the same thread's
	defer runtime.UnlockOSThread()
	seen, returned, err := c.tryConnect()
	if err != nil {
		return err
	}
	if !seen {
		return errUnseen
	}
	if returned {
		return nil
	}
	for _, h := range returns {
		if err := c.attach(h); err != nil {
			return fmt.Errorf("attach %s: %w", h.program, err)
		}
	}
	if c.backend == Fexit {
		c.first, c.atReturn = "fexit_connect", false
	}
	if _, returned, err = c.tryConnect(); err != nil {
		return err
	}
	if !returned {
		return fmt.Errorf("%w return", errUnseen)
	}
	return nil
}

// tryConnect tells whether a connect of ours was counted, and whether it is not still waiting for its return. A socket
// cookie, not a thread id, tells which is ours: in a pid namespace we do not know our own as the kernel does.
func (c *Capture) tryConnect() (seen, returned bool, err error) {
	before, err := c.Counters()
	if err != nil {
		return false, false, err
	}
	first := probeFamilies[0]
	cookie, err := connectOnce(first.domain, first.to, connectPlainly)
	if err != nil {
		return false, false, fmt.Errorf("connect once: %w", err)
	}
	c.checks = append(c.checks, Probe{cookie, "connect(2) to " + first.name})
	after, err := c.Counters()
	if err != nil {
		return false, false, err
	}
	returned = true
	err = c.InFlight(func(r *Connect) {
		if r.Cookie == cookie {
			returned = false
		}
	})
	return after.Seen > before.Seen, returned, err
}
