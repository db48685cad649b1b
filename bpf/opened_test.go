package bpf

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopback is the index of lo in every network namespace.
const loopback = 1

// openSpecial makes sockets that can see or make packets, binds them and sets their options; and some that can do nothing of the kind. It
// returns what is to be told of it, one line each, sorted.
func openSpecial(t *testing.T, binds bool) (want []string) {
	t.Helper()
	socket := func(family, kind, protocol int) int {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			t.Fatalf("socket %d %d %d: %v", family, kind, protocol, err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	swap := func(protocol uint16) uint16 { return protocol<<8 | protocol>>8 }
	packet := socket(unix.AF_PACKET, unix.SOCK_RAW, int(swap(unix.ETH_P_ALL)))
	do(unix.Bind(packet, &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_ARP), Ifindex: loopback}))
	do(unix.SetsockoptPacketMreq(packet, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: loopback, Type: unix.PACKET_MR_PROMISC}))
	do(unix.SetsockoptPacketMreq(packet, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: loopback, Type: unix.PACKET_MR_ALLMULTI}))
	filter := []unix.SockFilter{{Code: unix.BPF_RET, K: 0}}
	do(unix.SetsockoptSockFprog(packet, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &filter[0]}))
	do(unix.SetsockoptInt(packet, unix.SOL_PACKET, unix.PACKET_FANOUT, 77|unix.PACKET_FANOUT_LB<<16))
	do(unix.SetsockoptInt(packet, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
	do(unix.SetsockoptInt(packet, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 0))
	raw := socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	do(unix.SetsockoptInt(raw, unix.SOL_IP, unix.IP_HDRINCL, 1))
	do(unix.SetsockoptInt(raw, unix.SOL_IP, unix.IP_HDRINCL, 0))
	do(unix.Bind(raw, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
	want = []string{
		"socket family=17 type=3 protocol=0x3", `bind family=17 type=3 protocol=0x806 at={0 1 lo}`, `promiscuous family=17 type=3 protocol=0x806 at={0 1 lo}`,
		`filter family=17 type=3 protocol=0x806 at={0 1 lo}`, `fanout family=17 type=3 protocol=0x806 at={0 1 lo}`, `bypass family=17 type=3 protocol=0x806 at={0 1 lo}`,
		"socket family=2 type=3 protocol=0x6", "hdrincl family=2 type=3 protocol=0x6", "bind family=2 type=3 protocol=0x6 local=127.0.0.1:0",
		"socket family=10 type=3 protocol=0x3a",
	}
	if xdp, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err == nil {
		unix.Close(xdp)
		want = append(want, "socket family=44 type=3 protocol=0x0")
	}
	socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	stream := socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	udp := socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	do(unix.SetsockoptSockFprog(udp, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &filter[0]}))
	want = append(want, "filter family=2 type=2 protocol=0x11")
	name := fmt.Sprintf("@conntape-opened-%d", time.Now().UnixNano())
	local := socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	do(unix.SetsockoptSockFprog(local, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &filter[0]}))
	do(unix.Bind(udp, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	do(unix.Bind(stream, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	do(unix.Bind(local, &unix.SockaddrUnix{Name: name}))
	if binds {
		for fd, what := range map[int]string{udp: "type=2 protocol=0x11", stream: "type=1 protocol=0x6"} {
			at, err := unix.Getsockname(fd)
			do(err)
			want = append(want, fmt.Sprintf("bind family=2 %s local=%v", what, addressOfName(at)))
		}
		want = append(want, "bind family=1 type=2 protocol=0x0 path="+name[1:])
	}
	slices.Sort(want)
	return want
}

// lineOf says what a record tells.
func lineOf(c *Connect) string {
	line := fmt.Sprintf("%s family=%d type=%d protocol=%#x", c.Via, c.SocketFamily, c.Type, c.Protocol)
	if p, ok := c.Place(); ok {
		return line + fmt.Sprintf(" at=%v", p)
	}
	switch {
	case len(c.Local) > 3 && c.SocketFamily == unix.AF_UNIX:
		line += " path=" + strings.TrimRight(string(c.Local[3:]), "\x00")
	case len(c.Local) > 0:
		line += fmt.Sprintf(" local=%v", addressOf(c.Local))
	}
	return line
}

// TestOpened has every backend that attaches here tell of the sockets that can see or make packets, each once, and of binds where they
// are wanted.
func TestOpened(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		for _, binds := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s binds=%v", backend, binds), func(t *testing.T) {
				c, err := Open(Options{Backend: backend, Events: Events{Sockets: true, Options: true, Binds: binds}})
				attachedOrSkip(t, err)
				defer c.Close()
				want := openSpecial(t, binds)
				var got []string
				var rec Connect
				for deadline := time.Now().Add(5 * time.Second); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
					for {
						ok, err := c.ReadEvent(&rec)
						if err != nil {
							t.Fatal(err)
						}
						if !ok {
							break
						}
						if rec.Key.Tgid == uint32(os.Getpid()) {
							got = append(got, lineOf(&rec))
						}
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				n, err := c.Counters()
				if err != nil || n.EventSeen != n.EventSent || n.EventLost != 0 || n.EventSent < uint64(len(want)) {
					t.Errorf("%+v, %v", n, err)
				}
			})
		}
	}
}

// TestRefusedPrograms: a kernel that refuses one of the programs of events records all else, and its blind spots say so.
func TestRefusedPrograms(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for program, unseen := range map[string][]string{
		"exit_bind":       {unseenSockets},
		"cgroup_sendmsg4": {unseenSends},
		"hello_sockops":   {unseenHellos},
	} {
		t.Run(program, func(t *testing.T) {
			c, err := Open(Options{Backend: Cgroup, Events: Events{Accept: true, Sends: true, Sockets: true, Names: true, TLS: true}, refused: []string{program}})
			attachedOrSkip(t, err)
			defer c.Close()
			for _, spot := range []string{unseenSockets, unseenSends, unseenNames, unseenHellos} {
				if slices.Contains(c.BlindSpots(), spot) != slices.Contains(unseen, spot) {
					t.Errorf("blind spots, when %s is refused: %q", program, c.BlindSpots())
				}
			}
			for _, part := range []string{"exit_accept", "exit_connect_unseen"} {
				if !slices.ContainsFunc(c.attached, func(a attachment) bool { return a.hook.program == part }) {
					t.Errorf("%s is not attached", part)
				}
			}
		})
	}
}
