package bpf

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// ErrBlind means that the kernel no longer runs the programs of this backend, although they look attached. Opening a
// capture anew finds a backend that still sees.
var ErrBlind = errors.New("the kernel no longer runs our programs")

// attachment is a hook that is attached.
type attachment struct {
	hook    hook
	link    link.Link
	program ebpf.ProgramID // of the hook, 0 before it was asked for
}

// Watch compares what is attached with what Open attached, and mends it: whoever is root can take a cgroup program off its
// hook (BPF_LINK_DETACH), put another in its place (BPF_LINK_UPDATE), and the kernel has switches that silence trampolines
// and kprobes. gone has a sentence for each hook that had gone and is attached again.
//
// The error wraps ErrBlind where a switch silences the backend, or a hook cannot be attached again.
func (c *Capture) Watch() (gone []string, err error) {
	for i := range c.attached {
		a := &c.attached[i]
		if a.hook.how != cgroup { // the kernel lets nobody detach or replace the others
			continue
		}
		why, err := c.doubt(a)
		if err != nil {
			return gone, err
		}
		if why == "" {
			continue
		}
		again, err := c.link(a.hook)
		if err != nil {
			return gone, fmt.Errorf("%w: %s was %s, and attaching it again: %w", ErrBlind, a.hook.program, why, err)
		}
		_ = a.link.Close() // nothing hangs on it
		a.link = again
		c.loosePins(c.pins.repin(c, i))
		gone = append(gone, fmt.Sprintf("%s was %s, and is attached again", a.hook.program, why))
	}
	if why := c.pins.changed(); why != "" && !c.loose {
		c.loosePins(errTouched)
		gone = append(gone, why+": the next recorder will not go on with these programs")
	}
	for _, s := range c.switchesOff() {
		if !slices.Contains(c.harmless, s) {
			return gone, fmt.Errorf("%w: %s is 0", ErrBlind, s)
		}
	}
	return gone, nil
}

// loosePins gives up what is pinned where it cannot be kept right. Recording goes on without.
func (c *Capture) loosePins(err error) {
	if err != nil && !c.loose {
		c.loose = true
		_ = c.pins.removeAll()
	}
}

// doubt says what happened to a cgroup program, "" nothing. A detached link keeps its id and program; only the cgroup is
// gone from it (kernel/bpf/cgroup.c, bpf_cgroup_link_fill_link_info).
func (c *Capture) doubt(a *attachment) (string, error) {
	info, err := a.link.Info()
	if err != nil {
		return "", fmt.Errorf("look at the link of %s: %w", a.hook.program, err)
	}
	if at := info.Cgroup(); at != nil && at.CgroupId == 0 {
		return "detached", nil
	}
	if a.program == 0 { // it never changes, and asking for it reads a file of /proc, too
		program, err := c.collection.Programs[a.hook.program].Info()
		if err != nil {
			return "", fmt.Errorf("look at %s: %w", a.hook.program, err)
		}
		a.program, _ = program.ID()
	}
	if a.program != info.Program {
		return "replaced by another program", nil
	}
	return "", nil
}

// A killSwitch silences programs that stay attached.
type killSwitch struct {
	path     string
	backends []Backend
}

// killSwitches are those of ftrace, which calls trampolines and most kprobes, and of kprobes. Both read 0 when they are off.
var killSwitches = []killSwitch{
	{"/proc/sys/kernel/ftrace_enabled", []Backend{Fexit, Kprobe}},
	{"/sys/kernel/debug/kprobes/enabled", []Backend{Kprobe}},
}

// switchesOff returns those that concern the backend and are off. One that cannot be read is not there.
func (c *Capture) switchesOff() (off []string) {
	for _, s := range killSwitches {
		for _, b := range s.backends {
			text, err := os.ReadFile(s.path)
			if b == c.backend && err == nil && strings.TrimSpace(string(text)) == "0" {
				off = append(off, s.path)
			}
		}
	}
	return off
}
