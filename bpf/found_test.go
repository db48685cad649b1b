package bpf

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openBefore makes sockets of each kind that the walk finds, and some that it leaves out. It returns what is to be told of them, sorted.
func openBefore(t *testing.T) (want []string) {
	t.Helper()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	socket := func(family, kind, protocol int) int {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		do(err)
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	at := func(fd int) any {
		name, err := unix.Getsockname(fd)
		do(err)
		return addressOfName(name)
	}
	here := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}

	listens := socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	do(unix.Bind(listens, here))
	do(unix.Listen(listens, 1))
	again, err := unix.FcntlInt(uintptr(listens), unix.F_DUPFD_CLOEXEC, 0)
	do(err)
	t.Cleanup(func() { unix.Close(again) })
	bound := socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	do(unix.Bind(bound, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}))
	datagrams := socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	do(unix.Bind(datagrams, here))
	sender := socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	do(unix.Sendto(sender, []byte("x"), 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}))
	want = []string{
		fmt.Sprintf("listen family=2 type=1 protocol=0x6 local=%v", at(listens)), fmt.Sprintf("bind family=2 type=1 protocol=0x6 local=%v", at(listens)),
		fmt.Sprintf("bind family=10 type=1 protocol=0x6 local=%v", at(bound)), fmt.Sprintf("bind family=2 type=2 protocol=0x11 local=%v", at(datagrams)),
		fmt.Sprintf("bind family=2 type=2 protocol=0x11 local=%v", at(sender)),
	}
	if multipath, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP); err == nil {
		t.Cleanup(func() { unix.Close(multipath) })
		do(unix.Bind(multipath, here))
		do(unix.Listen(multipath, 1))
		want = append(want, fmt.Sprintf("listen family=2 type=1 protocol=0x106 local=%v", at(multipath)), fmt.Sprintf("bind family=2 type=1 protocol=0x106 local=%v", at(multipath)))
	}
	for kind, what := range map[int]string{unix.SOCK_STREAM: "stream", unix.SOCK_SEQPACKET: "seqpacket", unix.SOCK_DGRAM: "dgram"} {
		name := fmt.Sprintf("conntape-found-%s-%d", what, time.Now().UnixNano())
		fd := socket(unix.AF_UNIX, kind, 0)
		do(unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}))
		want = append(want, fmt.Sprintf("bind family=1 type=%d protocol=0x0 path=%s", kind, name))
		if kind != unix.SOCK_DGRAM {
			do(unix.Listen(fd, 1))
			want = append(want, fmt.Sprintf("listen family=1 type=%d protocol=0x0 path=%s", kind, name))
		}
	}

	filter := &unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET}}
	packet := socket(unix.AF_PACKET, unix.SOCK_RAW, unix.ETH_P_ALL<<8)
	do(unix.Bind(packet, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ARP<<8&0xff00 | unix.ETH_P_ARP>>8, Ifindex: loopback}))
	do(unix.SetsockoptPacketMreq(packet, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: loopback, Type: unix.PACKET_MR_PROMISC}))
	do(unix.SetsockoptSockFprog(packet, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, filter))
	do(unix.SetsockoptInt(packet, unix.SOL_PACKET, unix.PACKET_FANOUT, 78|unix.PACKET_FANOUT_LB<<16))
	everywhere := socket(unix.AF_PACKET, unix.SOCK_DGRAM, unix.ETH_P_ALL<<8)
	do(unix.SetsockoptPacketMreq(everywhere, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: loopback, Type: unix.PACKET_MR_ALLMULTI}))
	raw := socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	do(unix.Bind(raw, here))
	do(unix.SetsockoptInt(raw, unix.SOL_IP, unix.IP_HDRINCL, 1))
	taken := socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
	do(unix.SetsockoptInt(taken, unix.SOL_IP, unix.IP_HDRINCL, 1))
	do(unix.SetsockoptInt(taken, unix.SOL_IP, unix.IP_HDRINCL, 0))
	socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	headers := socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP)
	do(unix.SetsockoptInt(headers, unix.SOL_IPV6, unix.IPV6_HDRINCL, 1))
	socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
	do(unix.SetsockoptSockFprog(datagrams, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, filter))
	want = append(want,
		"socket family=17 type=3 protocol=0x806", "bind family=17 type=3 protocol=0x806 at={0 1 lo}", "promiscuous family=17 type=3 protocol=0x806 at={0 1 lo}",
		"filter family=17 type=3 protocol=0x806 at={0 1 lo}", "fanout family=17 type=3 protocol=0x806 at={0 1 lo}", "socket family=17 type=2 protocol=0x3",
		"socket family=2 type=3 protocol=0x11", "socket family=2 type=3 protocol=0xff", "socket family=10 type=3 protocol=0x11", "hdrincl family=10 type=3 protocol=0x11",
		"socket family=2 type=3 protocol=0x6", "hdrincl family=2 type=3 protocol=0x6 local=127.0.0.1:0", "bind family=2 type=3 protocol=0x6 local=127.0.0.1:0", "socket family=10 type=3 protocol=0x3a",
		fmt.Sprintf("filter family=2 type=2 protocol=0x11 local=%v", at(datagrams)))

	for name, kind := range map[string]uint16{"found0": unix.IFF_TUN, "found1": unix.IFF_TAP} {
		device, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Logf("SKIPPED: devices: %v", err)
			break
		}
		t.Cleanup(func() { unix.Close(device) })
		request, err := unix.NewIfreq(name)
		do(err)
		request.SetUint16(kind | unix.IFF_NO_PI)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(device), unix.TUNSETIFF, uintptr(unsafe.Pointer(request)))
		if errno != 0 {
			t.Fatal(errno)
		}
		want = append(want, fmt.Sprintf("%s family=0 type=0 protocol=0x0 at={0 0 %s}", map[uint16]string{unix.IFF_TUN: "tun", unix.IFF_TAP: "tap"}[kind], name))
	}
	unattached, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		t.Cleanup(func() { unix.Close(unattached) })
	}

	// None of these can be reached, or sees what is not its own: an accepted socket has the address of the listener.
	peer := socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	name, err := unix.Getsockname(listens)
	do(err)
	do(unix.Connect(peer, name))
	accepted, _, err := unix.Accept(listens)
	do(err)
	t.Cleanup(func() { unix.Close(accepted) })
	client := socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	do(unix.Connect(client, name))
	socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	do(err)
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	slices.Sort(want)
	return want
}

// TestFoundSockets: sockets that listened, were bound or could see packets before anybody recorded are told by what they are, once for each
// process that has them, and only what is asked for.
func TestFoundSockets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	all := openBefore(t)
	for _, backend := range Backends() {
		for what, e := range map[string]Events{"all": {Sockets: true, Options: true, Binds: true, Listen: true}, "listen": {Listen: true}} {
			t.Run(fmt.Sprintf("%s %s", backend, what), func(t *testing.T) {
				c, err := Open(Options{Backend: backend, Events: e})
				attachedOrSkip(t, err)
				defer c.Close()
				want := slices.Clone(all)
				if slices.Contains(c.BlindSpots(), unseenDevices) {
					want = slices.DeleteFunc(want, func(line string) bool { return strings.HasPrefix(line, "tun ") || strings.HasPrefix(line, "tap ") })
				}
				if what != "all" {
					want = slices.DeleteFunc(want, func(line string) bool { return !strings.HasPrefix(line, what) })
				}
				var got []string
				err = c.FoundSockets(func(rec *Connect) {
					if rec.Key.Tgid != uint32(os.Getpid()) {
						return
					}
					if !rec.Found || rec.Key.Start == 0 || rec.NetNS == 0 || rec.BootTime == 0 || rec.FD <= 0 || rec.Addrlen != 0 {
						t.Errorf("%+v", rec)
					}
					got = append(got, lineOf(rec))
				})
				slices.Sort(got)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("found (%v):\n%s\nwant:\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			})
		}
	}
}
