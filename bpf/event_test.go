package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An acceptCase is a listener, and how one connection to it is accepted and ends.
type acceptCase struct {
	name             string
	family, protocol int
	wait             bool // the listener does not block
	reset, first     bool // the accepting side resets, or closes first
	sent, received   int
}

func acceptCases() []acceptCase {
	return []acceptCase{
		{name: "TCP4", family: unix.AF_INET, sent: 100, received: 3000},
		{name: "TCP4, we close first", family: unix.AF_INET, first: true, sent: 1, received: 70_000},
		{name: "TCP6, does not block", family: unix.AF_INET6, wait: true, received: 5},
		{name: "TCP4, reset", family: unix.AF_INET, reset: true, sent: 10},
		{name: "MPTCP", family: unix.AF_INET, protocol: unix.IPPROTO_MPTCP, received: 500},
		{name: "UNIX", family: unix.AF_UNIX, sent: 10},
	}
}

// TestAccepts has every backend that attaches here tell of connections that are accepted, and of TCP of their ends, to the byte;
// and of sockets that listen.
func TestAccepts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend})
			attachedOrSkip(t, err)
			c.Close()
			if c, err = Open(Options{Backend: backend, Events: Events{Accept: true, Listen: true}}); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, one := range acceptCases() {
				t.Run(one.name, func(t *testing.T) { one.hold(t, c) })
			}
			n, err := c.Counters()
			if err != nil || n.EventSeen != n.EventSent || n.EventLost != 0 || n.EventSent == 0 {
				t.Errorf("events seen %d, sent %d, lost %d, %v", n.EventSeen, n.EventSent, n.EventLost, err)
			}
		})
	}
}

func (one *acceptCase) hold(t *testing.T, c *Capture) {
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	listener, err := unix.Socket(one.family, kind, one.protocol)
	if one.protocol != 0 && err != nil {
		t.Skip("SKIPPED: this kernel has no MPTCP:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	var name unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if one.family == unix.AF_INET6 {
		name = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	} else if one.family == unix.AF_UNIX {
		name = &unix.SockaddrUnix{Name: fmt.Sprintf("@conntape-accept-%d-%s", os.Getpid(), c.Backend())}
	}
	if err := errors.Join(unix.Bind(listener, name), unix.Listen(listener, 1)); err != nil {
		t.Fatal(err)
	}
	name, err = unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	client, err := unix.Socket(one.family, kind, one.protocol)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(client, name); err != nil {
		t.Fatal(err)
	}
	if one.wait {
		unix.SetNonblock(listener, true)
		poll(t, listener, unix.POLLIN)
	}
	fd, peer, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	one.talk(t, client, fd)
	event := one.event(t, c, name, peer)
	if one.family == unix.AF_UNIX {
		return
	}
	got := outcomeOfAccept(t, c, event.ID())
	errno := uint16(0)
	if got.Errno != errno || got.Sent != uint64(one.sent) || got.Received != uint64(one.received) || got.Cookie != event.Cookie ||
		one.protocol == 0 && !one.reset && got.ClosedBy != map[bool]ClosedBy{true: ClosedByLocal, false: ClosedByRemote}[one.first] {
		t.Errorf("it ended with %+v, want %+v", got, one)
	}
}

// talk sends what is to be sent both ways, and closes both ends.
func (one *acceptCase) talk(t *testing.T, client, fd int) {
	for _, way := range []struct{ from, to, n int }{{fd, client, one.sent}, {client, fd, one.received}} {
		for done := 0; done < way.n; {
			n, err := unix.Write(way.from, make([]byte, min(way.n-done, 1000)))
			if err != nil {
				t.Fatal(err)
			}
			for done += n; n > 0; {
				m, err := unix.Read(way.to, make([]byte, n))
				if err != nil {
					t.Fatal(err)
				}
				n -= m
			}
		}
	}
	if one.reset {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	ends := []int{client, fd}
	if one.first || one.reset {
		slices.Reverse(ends)
	}
	for _, end := range ends {
		unix.Close(end)
		time.Sleep(20 * time.Millisecond)
	}
}

// event returns the record of the accept, after that of the listener.
func (one *acceptCase) event(t *testing.T, c *Capture, name, peer unix.Sockaddr) Connect {
	t.Helper()
	listened := one.family == unix.AF_UNIX
	var rec Connect
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for {
			ok, err := c.ReadEvent(&rec)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if rec.Key.Tgid != uint32(os.Getpid()) || rec.SocketFamily != uint16(one.family) {
				continue
			}
			local := addressOf(rec.Local)
			if rec.Via == ViaListen && local == addressOfName(name) {
				listened = true
			}
			if rec.Via != ViaAccept || one.family != unix.AF_UNIX && local != addressOfName(name) {
				continue
			}
			if !listened {
				t.Error("that the socket listens was not told")
			}
			want := one.protocol
			if want == 0 && one.family != unix.AF_UNIX {
				want = unix.IPPROTO_TCP
			}
			if addressOf(rec.Remote) != addressOfName(peer) || rec.Type != unix.SOCK_STREAM || int(rec.Protocol) != want ||
				one.family == unix.AF_UNIX && rec.Addrlen != int32(os.Getpid()) {
				t.Errorf("the record is %+v, want the peer %v", rec, peer)
			}
			return rec
		}
	}
	t.Fatal("the accept was not recorded")
	return rec
}

func outcomeOfAccept(t *testing.T, c *Capture, id ID) (o Outcome) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for {
			ok, err := c.ReadOutcome(&o)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if o.Attempt == id && o.Accepted {
				return o
			}
		}
	}
	t.Fatal("the end of the connection was not told")
	return o
}

func poll(t *testing.T, fd int, events int16) {
	t.Helper()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, 5000); err != nil || n != 1 {
		t.Fatal(n, err)
	}
}

// addressOf reads an inet sockaddr, zero any other.
func addressOf(raw []byte) netip.AddrPort {
	switch {
	case len(raw) >= 16 && raw[0] == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), uint16(raw[2])<<8|uint16(raw[3]))
	case len(raw) >= 28 && raw[0] == unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[8:24])), uint16(raw[2])<<8|uint16(raw[3]))
	}
	return netip.AddrPort{}
}

func addressOfName(name unix.Sockaddr) netip.AddrPort {
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}
