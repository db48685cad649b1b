package bpf

import (
	"errors"
	"os"

	"github.com/cilium/ebpf"
)

// Events says what is recorded beside connects.
type Events struct {
	Accept bool // connections that are accepted
	Listen bool // TCP and MPTCP sockets that listen
	Sends  bool // what is sent without a connect: ReadConnect tells of the first of a kind, Sends how many came after it

	Sockets bool // sockets and devices that can see packets of others, or make packets as they like: who made one, and where it is bound
	Options bool // socket options that do so
	Binds   bool // which socket is bound to which address by bind(2)
}

// eventHooks are those of a backend. What it cannot see of them comes with them.
func eventHooks(b Backend, e Events) (hooks []hook, blindSpots []string, err error) {
	if e.Listen {
		hooks = append(hooks, hook{program: "listens"})
	}
	if e.Sends {
		if hooks, err = sendHooks(hooks, b); err != nil {
			return nil, nil, err
		}
	}
	sockets, unseen, err := socketHooks(b, e)
	if err != nil {
		return nil, nil, err
	}
	hooks, blindSpots = append(hooks, sockets...), append(blindSpots, unseen...)
	if !e.Accept {
		return hooks, blindSpots, nil
	}
	grafts, err := kernelHasFunc("security_sock_graft")
	switch {
	case err != nil:
		return nil, nil, err
	case grafts && b == Fexit:
		return append(hooks, hook{program: "fentry_accept"}), blindSpots, nil
	case grafts && b == Kprobe:
		return append(hooks, hook{program: "kprobe_accept", how: kprobe, target: "security_sock_graft"}), blindSpots, nil
	}
	hooks = append(hooks,
		hook{program: "exit_accept", how: tracepoint, group: "syscalls", target: "sys_exit_accept"},
		hook{program: "exit_accept", how: tracepoint, group: "syscalls", target: "sys_exit_accept4"})
	return hooks, append(blindSpots, "connections that are accepted by io_uring, by a 32-bit process or by the kernel"), nil
}

// configureEvents sets what the programs of events need.
func configureEvents(spec *ebpf.CollectionSpec, e Events) map[string]any {
	ring := spec.Maps["events"].MaxEntries
	if !e.Accept {
		spec.Maps["accepted_sockets"].MaxEntries = 1
	}
	if !e.Sends {
		spec.Maps["sends"].MaxEntries = 1
	}
	return map[string]any{
		"sends_each":    max(spec.Maps["sends"].MaxEntries/8, 1),
		"events_wakeup": ring / 4, "events_mark": ring / 4 * 3, "events_allowance": ring / 4 / 16, "follows_accepted": e.Accept,
		"every_bind": e.Binds,
	}
}

// ReadEvent takes the next event without waiting: a Connect whose Via tells what it is. It returns false when there is none.
// The record is valid until the next call.
func (c *Capture) ReadEvent(rec *Connect) (bool, error) {
	var err error
	c.event, err = c.events.read(c.event)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	if err == nil {
		err = rec.decode(c.event)
	}
	return err == nil, err
}
