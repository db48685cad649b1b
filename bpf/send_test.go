package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A sendCase sends without connect: the first one, and more to the same address.
type sendCase struct {
	name   string
	family int
	raw    int // protocol of a raw socket
	to     unix.Sockaddr
	bytes  int64 // of each, Unknown where the system call does not tell
	send   func(fd int, to unix.Sockaddr) error
}

var payload = []byte("0123456789")

func sendCases() []sendCase {
	plain := func(fd int, to unix.Sockaddr) error { return unix.Sendto(fd, payload, 0, to) }
	message := func(fd int, to unix.Sockaddr) error { return unix.Sendmsg(fd, payload, nil, to, 0) }
	v4 := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
	return []sendCase{
		{"sendto", unix.AF_INET, 0, v4, 10, plain},
		{"sendmsg", unix.AF_INET, 0, v4, 10, message},
		{"IPv6", unix.AF_INET6, 0, &unix.SockaddrInet6{Port: 9, Addr: [16]byte{15: 1}}, 10, plain},
		{"IPv4 by an IPv6 socket", unix.AF_INET6, 0, &unix.SockaddrInet6{Port: 9, Addr: [16]byte{10: 0xff, 0xff, 127, 0, 0, 1}}, 10, plain},
		{"elsewhere than connected", unix.AF_INET, 0, v4, 10, func(fd int, to unix.Sockaddr) error {
			return errors.Join(unix.Connect(fd, &unix.SockaddrInet4{Port: 99, Addr: [4]byte{127, 0, 0, 1}}), plain(fd, to))
		}},
		{"raw", unix.AF_INET, unix.IPPROTO_ICMP, v4, 10, plain},
		{"raw IPv6", unix.AF_INET6, unix.IPPROTO_ICMPV6, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}, 10, plain},
	}
}

// TestSends has every backend that attaches here tell of the first send to an address, and count those after it.
func TestSends(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend})
			attachedOrSkip(t, err)
			c.Close()
			if c, err = Open(Options{Backend: backend, Events: Events{Sends: true}}); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if slices.Contains(c.BlindSpots(), unseenSends) {
				t.Fatal("blind to sends")
			}
			for _, one := range sendCases() {
				t.Run(one.name, func(t *testing.T) { one.hold(t, c) })
			}
			t.Run("UNIX names", func(t *testing.T) { holdUnixSends(t, c) })
			t.Run("answers", func(t *testing.T) { holdAnswers(t, c) })
		})
	}
}

func (one *sendCase) hold(t *testing.T, c *Capture) {
	const more = 5
	kind, protocol := unix.SOCK_DGRAM, unix.IPPROTO_UDP
	if one.raw != 0 {
		if slices.Contains(c.BlindSpots(), unseenRaw) {
			t.Skip("SKIPPED: " + unseenRaw)
		}
		kind, protocol = unix.SOCK_RAW, one.raw
	}
	fd, cookie := openSocket(t, one.family, kind, protocol)
	for range 1 + more {
		if err := one.send(fd, one.to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	var first Connect
	for n := 0; ; n++ {
		if err := c.ReadConnect(time.Now().Add(5*time.Second), &first); err != nil {
			t.Fatal("no record of the first send: ", err)
		}
		if first.Cookie == cookie && first.Via == ViaSendto {
			break
		}
	}
	want := netip.MustParseAddrPort("127.0.0.1:9")
	switch one.name {
	case "IPv6":
		want = netip.MustParseAddrPort("[::1]:9")
	case "raw":
		want = netip.MustParseAddrPort("127.0.0.1:0")
	case "raw IPv6":
		want = netip.MustParseAddrPort("[::1]:0")
	}
	if got := addrPortOf(first.Remote); got != want || first.FD != int32(fd) || first.Key.Tgid == 0 || first.SocketFamily != uint16(one.family) ||
		first.Type != uint16(kind) || first.Protocol != uint16(protocol) || first.Bytes != one.bytes || first.Errno != Unknown || first.NetNS == 0 || (len(first.Local) == 0) != (one.raw != 0) {
		t.Errorf("first send to %v: %+v", got, first)
	}
	if err := c.NextSends(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	if got := sendCount(t, c, cookie); got.Count != more || got.Bytes != more*one.bytes || addrPortOf(got.Of.Remote) != want ||
		got.First < first.BootTime || got.Last < got.First || got.Of.Tid == 0 || got.Of.BootTime != first.BootTime {
		t.Errorf("counted %+v, want %d", got, more)
	}
	// Whoever goes on is not told of anew, and counted once.
	for range more {
		if err := one.send(fd, one.to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	if err := c.NextSends(); err != nil {
		t.Fatal(err)
	}
	if got := sendCount(t, c, cookie); got.Count != more || got.Bytes != more*one.bytes {
		t.Errorf("then counted %+v, want %d", got, more)
	}
	if err := c.ReadConnect(time.Now(), &first); err == nil && first.Cookie == cookie && first.Via == ViaSendto {
		t.Error("it is told of a second time")
	}
}

// holdAnswers sends from a port that a server would have to several that clients would: the first is told of with its port, the others
// are counted together, with none.
func holdAnswers(t *testing.T, c *Capture) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for port := 20_000; ; port++ {
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err == nil {
			break
		} else if port == 30_000 {
			t.Fatal(err)
		}
	}
	for port := range 7 {
		to := &unix.SockaddrInet4{Port: 40_000 + port, Addr: [4]byte{127, 0, 0, 1}}
		if err := unix.Sendto(fd, payload, 0, to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	var told []netip.AddrPort
	for one, until := (Connect{}), time.Now().Add(300*time.Millisecond); time.Now().Before(until); { // others connect all the time
		err := c.ReadConnect(until, &one)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if one.Cookie == cookie && one.Via == ViaSendto {
			told = append(told, addrPortOf(one.Remote))
		}
	}
	if want := netip.MustParseAddrPort("127.0.0.1:40000"); !slices.Equal(told, []netip.AddrPort{want}) {
		t.Errorf("told of sends to %v, want %v", told, want)
	}
	if err := c.NextSends(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	if got := sendCount(t, c, cookie); got.Count != 6 || addrPortOf(got.Of.Remote) != netip.MustParseAddrPort("127.0.0.1:0") || got.Bytes != 60 {
		t.Errorf("counted %+v of %v, want 6", got, addrPortOf(got.Of.Remote))
	}
}

// holdUnixSends sends to more names of UNIX sockets than a process has counts for: the first to each is told of with the name and those after it
// are counted, and what has no room is counted together. What a connected socket sends is not told.
func holdUnixSends(t *testing.T, c *Capture) {
	if slices.Contains(c.BlindSpots(), unseenUnix) {
		t.Skip("SKIPPED: " + unseenUnix)
	}
	socket := func() int {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	receiver, fd, connected := socket(), socket(), socket()
	here := &unix.SockaddrUnix{Name: "@conntape-sends-" + time.Now().String()}
	if err := unix.Bind(receiver, here); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(connected, here); err != nil {
		t.Fatal(err)
	}
	cookieOf := func(fd int) uint64 {
		cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		if err != nil {
			t.Fatal(err)
		}
		return cookie
	}
	cookie := cookieOf(fd)
	if _, err := unix.Write(connected, payload); err != nil {
		t.Fatal(err)
	}
	const each, names = 256, 300 // unix_sends_each
	for i := range names {
		to := here
		if i > 0 {
			to = &unix.SockaddrUnix{Name: fmt.Sprint("@conntape-nobody-", i)}
		}
		for range 3 {
			if err := unix.Sendto(fd, payload, 0, to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				t.Fatal(err)
			}
		}
	}
	told := map[string]int{}
	for one := (Connect{}); c.ReadConnect(time.Now(), &one) == nil; {
		if one.Via != ViaSendto || one.SocketFamily != unix.AF_UNIX || one.Cookie != cookie {
			if one.Via == ViaSendto && one.Cookie == cookieOf(connected) {
				t.Errorf("a connected send is told: %+v", one)
			}
			continue
		}
		if one.FD != int32(fd) || one.Bytes != int64(len(payload)) || one.Type != unix.SOCK_DGRAM || len(one.Local) != 0 {
			t.Errorf("first send %+v", one)
		}
		told[string(one.Remote[3:])]++
	}
	if len(told) != each || told[here.Name[1:]] != 1 || told["conntape-nobody-7"] != 1 {
		t.Errorf("told of %d names, want %d", len(told), each)
	}
	if err := c.NextSends(); err != nil {
		t.Fatal(err)
	}
	counted, together := 0, uint64(0)
	if err := c.Sends(false, func(s *SendCount) {
		switch {
		case s.Of.Key.Tgid != uint32(os.Getpid()) || s.Of.SocketFamily != unix.AF_UNIX:
		case len(s.Of.Remote) == 0:
			together += s.Count
		case s.Of.Cookie == cookie && s.Count == 2 && s.Bytes == 2*int64(len(payload)) && told[string(s.Of.Remote[3:])] == 1:
			counted++
		}
	}); err != nil {
		t.Fatal(err)
	}
	if counted != each || together != 3*(names-each) {
		t.Errorf("counted %d names, and %d together; want %d and %d", counted, together, each, 3*(names-each))
	}
}

func sendCount(t *testing.T, c *Capture, cookie uint64) (found SendCount) {
	t.Helper()
	err := c.Sends(false, func(s *SendCount) {
		if s.Of.Cookie == cookie && len(s.Of.Remote) > 0 {
			found = *s
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func addrPortOf(raw []byte) netip.AddrPort {
	if len(raw) < sockaddrInet {
		return netip.AddrPort{}
	}
	a, at := netip.Addr{}, 4
	if binary.NativeEndian.Uint16(raw) == familyInet {
		a, _ = netip.AddrFromSlice(raw[at : at+4])
	} else {
		a, _ = netip.AddrFromSlice(raw[8:24])
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(raw[2:]))
}
