package bpf

import (
	"errors"
	"os"
	"strings"

	"github.com/cilium/ebpf"
)

// Events says what is recorded beside connects.
type Events struct {
	Accept bool // connections that are accepted
	Listen bool // TCP and MPTCP sockets that listen
	Sends  bool // what is sent without a connect: ReadConnect tells of the first of a kind, Sends how many came after it
	Names  bool // answers of DNS servers, for ReadAnswer
	TLS    bool // likewise what TLS clients send first
	HTTP   bool // likewise what HTTP clients do

	Sockets bool // sockets and devices that can see packets of others, or make packets as they like: who made one, and where it is bound
	Options bool // socket options that do so
	Binds   bool // which socket is bound to which address by bind(2)
}

// findsSockets tells whether it is asked what sockets are there.
func (e Events) findsSockets() bool { return e.Sockets || e.Options || e.Binds || e.Listen }

// hellos tells whether first bytes are looked at.
func (e Events) hellos() bool { return e.TLS || e.HTTP }

// eventParts are what Events asks for that can be left out where a kernel does not take the programs; and what is not seen then.
var eventParts = []struct {
	name   string
	drop   func(*Events)
	unseen string
}{
	{"names", func(e *Events) { e.Names = false }, unseenNames},
	{"sends without connect", func(e *Events) { e.Sends = false }, unseenSends},
	{"sockets that are opened", func(e *Events) { e.Sockets, e.Options, e.Binds = false, false, false }, unseenSockets},
	{
		"accepted connections and sockets that listen", func(e *Events) { e.Accept, e.Listen = false, false },
		"connections that are accepted, and sockets that listen: this kernel does not take the programs",
	},
	{"names that clients send", func(e *Events) { e.TLS, e.HTTP = false, false }, unseenHellos},
}

// leftOut are the parts to leave out, one attempt after another: one of them, two, three, four, all.
var leftOut = [][]int{
	{4}, {0}, {1}, {2}, {0, 4}, {1, 4}, {2, 4}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 4}, {0, 2, 4}, {1, 2, 4}, {0, 1, 2}, {0, 1, 2, 4}, {0, 1, 2, 3, 4},
}

// openWith opens a backend. Where the kernel does not take the programs of some events, all else is recorded without them.
func openWith(b Backend, o Options, k *kernel) (*Capture, error) {
	c, err := open(b, o, k)
	if err == nil || o.Events == (Events{}) {
		return c, err
	}
	bare := o
	bare.Events = Events{}
	c, without := open(b, bare, k)
	if without != nil { // events are not to blame
		return nil, err
	}
	_ = c.Close() // it was only tried
	for i, parts := range leftOut {
		some := o
		var names, unseen []string
		for _, part := range parts {
			before := some.Events
			if eventParts[part].drop(&some.Events); some.Events != before {
				names, unseen = append(names, eventParts[part].name), append(unseen, eventParts[part].unseen)
			}
		}
		if len(names) < len(parts) && i < len(leftOut)-1 { // fewer were tried before
			continue
		}
		if c, without := open(b, some, k); without == nil {
			o.Logger.Warn(strings.Join(names, ", ")+" are not recorded: the kernel does not take their programs", "error", err)
			c.blindSpots = append(c.blindSpots, unseen...)
			return c, nil
		}
	}
	return nil, err
}

// eventHooks are those of a backend. What it cannot see of them comes with them.
func eventHooks(b Backend, e Events, k *kernel) (hooks []hook, blindSpots []string) {
	if e.Sends {
		hooks, blindSpots = sendHooks(hooks, b, k), append(blindSpots, blindSends, pagedFrames)
		if !k.hasValue("bpf_attach_type", "BPF_CGROUP_UNIX_SENDMSG") {
			blindSpots = append(blindSpots, unseenUnix)
		}
	}
	sockets, unseen := socketHooks(b, e, k)
	hooks, blindSpots = append(hooks, sockets...), append(blindSpots, unseen...)
	if e.Names {
		hooks = append(hooks, dnsHooks(notesAskers(b, k.version))...)
	}
	if e.hellos() {
		hooks, blindSpots = append(hooks, helloHooks()...), append(blindSpots, blindHellos)
	}
	if !e.Accept {
		return hooks, blindSpots
	}
	grafts := k.hasFunc("security_sock_graft")
	switch {
	case grafts && b == Fexit:
		return append(hooks, hook{program: "fentry_accept"}), blindSpots
	case grafts && b == Kprobe:
		return append(hooks, hook{program: "kprobe_accept", how: kprobe, target: "security_sock_graft"}), blindSpots
	}
	hooks = append(hooks,
		hook{program: "exit_accept", how: tracepoint, group: "syscalls", target: "sys_exit_accept"},
		hook{program: "exit_accept", how: tracepoint, group: "syscalls", target: "sys_exit_accept4"})
	return hooks, append(blindSpots, "connections that are accepted by io_uring, by a 32-bit process or by the kernel")
}

// configureEvents sets what the programs of events need.
func configureEvents(spec *ebpf.CollectionSpec, e Events, k *kernel) map[string]any {
	ring := spec.Maps["events"].MaxEntries
	if !e.Accept {
		spec.Maps["accepted_sockets"].MaxEntries = 1
	}
	if !e.Sends {
		spec.Maps["sends"].MaxEntries = 1
		spec.Maps["unix_sends"].MaxEntries = 1
	}
	var devices tunLayout
	if e.Sockets {
		devices, _ = k.tunLayout()
	}
	return map[string]any{
		"tun_of_file": devices.tun, "flags_of_tun": devices.flags, "device_of_tun": devices.device,
		"sends_each":    max(spec.Maps["sends"].MaxEntries/8, 1),
		"events_wakeup": ring / 4, "events_mark": ring / 4 * 3, "events_allowance": ring / 4 / 16, "follows_accepted": e.Accept, "tells_listeners": e.Listen,
		"every_bind": e.Binds, "find_listeners": e.Listen, "find_special": e.Sockets, "find_options": e.Options,
	}
}

// ReadEvent takes the next event without waiting: a Connect whose Via tells what it is. It returns false when there is none.
// The record is valid until the next call.
func (c *Capture) ReadEvent(rec *Connect) (bool, error) {
	ok, err := c.readLeft(leftEvents, func(l *left, b []byte) (bool, error) {
		err := rec.decode(b)
		_, twin := l.twins[rec.ID()]
		return !twin, err
	})
	if ok || err != nil {
		return ok, err
	}
	c.event, err = c.events.read(c.event)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	if err == nil {
		err = rec.decode(c.event)
	}
	return err == nil, err
}
