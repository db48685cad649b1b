package bpf

import (
	"encoding/binary"
	"slices"
)

const unseenSockets = "sockets and devices that can see packets of others or make packets as they like, and which socket is bound where: this kernel does not take the programs"

const (
	unseenByCompat = "sockets that are opened, bound or made to listen through io_uring or by a 32-bit process, beside those that a connect or accept tells of"
	unseenDevices  = "TUN and TAP devices that were there before recording: this kernel does not publish the types of its module tun"
	unseenTun      = "TUN and TAP devices that are made or opened: this kernel has no trampolines, and no kprobes, and no tracepoint tells it"
)

// binders are the functions that bind a socket, and the program of each; other sockets than those that can see or make packets are
// bound by the first ones only where that is recorded. A kernel need not have all.
var binders = []struct{ function, program string }{
	{"inet_bind", "bind_inet"}, {"inet6_bind", "bind_inet6"}, {"packet_bind", "bind_packet"}, {"packet_bind_spkt", "bind_spkt"}, {"xsk_bind", "bind_xdp"},
	{"mptcp_bind", "bind_mptcp"}, {"unix_bind", "bind_unix"},
}

// plainBinders is how many of binders, at the end, bind no socket that can see or make packets.
const plainBinders = 2

// socketPrograms are all that tell of opened sockets by a trampoline or kprobe.
func socketPrograms() []string {
	names := []string{"fexit_socket", "kprobe_socket", "fexit_option", "kprobe_option", "fexit_tun", "kprobe_tun", "listen_unix"}
	for _, b := range binders {
		names = append(names, b.program)
	}
	return names
}

// socketHooks are those of sockets that are opened, bound and made to listen. Fexit has a trampoline for each; elsewhere tracepoints tell of
// what returned, and kprobes where nobody needs to know that.
func socketHooks(b Backend, e Events, k *kernel) (hooks []hook, blindSpots []string) {
	if !e.findsSockets() {
		return nil, nil
	}
	made := func(trampoline, probe, function, call string) {
		switch {
		case b == Fexit && k.hasFunc(function):
			hooks = append(hooks, hook{program: trampoline})
			return
		case k.hasFunc(function):
			hooks = append(hooks, hook{program: probe, how: kprobe, target: function, mayFail: true})
		}
		exit := exitOf(call)
		exit.unless = probe
		hooks = append(hooks, exit)
	}
	if e.Sockets {
		made("fexit_socket", "kprobe_socket", "security_socket_post_create", "socket")
		if _, known := k.tunLayout(); !known {
			blindSpots = append(blindSpots, unseenDevices)
		}
		switch {
		case !k.hasFunc("security_tun_dev_attach"):
			blindSpots = append(blindSpots, unseenTun)
		case b == Fexit:
			hooks = append(hooks, hook{program: "fexit_tun"})
		default:
			hooks = append(hooks, hook{program: "kprobe_tun", how: kprobe, target: "security_tun_dev_attach", mayFail: true, unseen: unseenTun})
		}
	}
	if e.Options {
		made("fexit_option", "kprobe_option", "security_socket_setsockopt", "setsockopt")
	}
	if e.Sockets || e.Binds {
		if b != Fexit {
			hooks, blindSpots = append(hooks, exitOf("bind")), append(blindSpots, unseenByCompat)
		} else {
			for i, binder := range binders {
				if k.hasFunc(binder.function) && (e.Binds || i < len(binders)-plainBinders) {
					hooks = append(hooks, hook{program: binder.program})
				}
			}
		}
	}
	switch {
	case !e.Listen:
	case b == Fexit && k.hasFunc("unix_listen"):
		hooks = append(hooks, hook{program: "listen_unix"})
	default:
		hooks, blindSpots = append(hooks, exitOf("listen")), append(blindSpots, unseenByCompat)
	}
	slices.Sort(blindSpots)
	return hooks, slices.Compact(blindSpots)
}

// exitOf is the return of a system call, by a program that sees no io_uring and no 32-bit process.
func exitOf(call string) hook {
	program := "exit_" + call
	if call == "setsockopt" {
		program = "exit_option"
	}
	return hook{program: program, how: tracepoint, group: "syscalls", target: "sys_exit_" + call, unseen: unseenByCompat}
}

// Families of a place that no socket address has.
const (
	familyPacket = 17     // AF_PACKET
	familyXDP    = 44     // AF_XDP
	familyDevice = 0xffff // of ViaTun and ViaTap
)

// Place is where a packet or XDP socket is bound, which TUN or TAP device was made, or through which device a frame was sent.
type Place struct {
	Queue     uint16 // of an XDP socket; of a frame's Remote the protocol that the frame is of (ETH_P_ARP and its kin), 0: unknown
	Interface uint32 // index in the network namespace; 0: any, or not known
	Name      string // of the interface, raw; "": any, or not known. Of a device the one that was asked for
}

// placeSize is that of struct place in opened.h.
const placeSize = 28

// Place returns where the socket is bound, or which device was made, of a record whose Local is that; false for any other.
func (c *Connect) Place() (p Place, ok bool) { return c.placeIn(c.Local) }

// Destination returns where a frame went whose Remote is no IP address; false for any other record.
func (c *Connect) Destination() (p Place, ok bool) { return c.placeIn(c.Remote) }

func (c *Connect) placeIn(b []byte) (p Place, ok bool) {
	n := binary.NativeEndian
	if c.Via < ViaSocket && c.Via != ViaFrame || len(b) != placeSize {
		return p, false
	}
	switch n.Uint16(b) {
	case familyPacket, familyXDP, familyDevice:
		return Place{Queue: n.Uint16(b[2:]), Interface: n.Uint32(b[4:]), Name: cString(b[12:])}, true
	}
	return p, false
}
