package bpf

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that was open before anybody recorded is found, by who has it, with what went over it so far; its end is told as
// that of any other. One that was accepted is not taken for one, whoever sent more. A connection of later is told of at each
// look.
func TestOpenSockets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			before, peer := pairOf(t)
			send(t, peer, 5000)
			sendFD(t, before, 70)
			receiveSome(t, before, 5000)
			receiveConn(t, peer, 70)
			half, halfPeer := pairOf(t)
			unix.Shutdown(half, unix.SHUT_WR)
			receiveConn(t, halfPeer, 0)
			c, err := Open(Options{Backend: backend})
			attachedOrSkip(t, err)
			defer c.Close()
			if got := openOf(t, c, false); len(got) != 0 {
				t.Errorf("before any were adopted: %+v", got)
			}
			got := openOf(t, c, true)
			first, second := got[portOf(t, before)], got[portOf(t, half)]
			if len(got) != 2 || first.SoFar.Kind != OutcomeOpen || first.SoFar.Sent != 70 || first.SoFar.Received != 5000 || !first.SoFar.Adopted() ||
				first.Holder.FD != int32(before) || first.Holder.Via != ViaSnapshot || first.Holder.Key.Tgid == 0 || first.Holder.ID() != first.SoFar.Attempt {
				t.Fatalf("want what is open: %+v", got)
			}
			remote := peer.LocalAddr().(*net.TCPAddr).AddrPort()
			if want := [2]byte{byte(remote.Port() >> 8), byte(remote.Port())}; [2]byte(first.Holder.Remote[2:4]) != want || [4]byte(first.Holder.Remote[4:8]) != remote.Addr().As4() {
				t.Errorf("it is connected to %v, want %v", first.Holder.Remote, remote)
			}
			if second.SoFar.ClosedBy != ClosedByLocal || second.SoFar.Sent != 0 {
				t.Errorf("half closed: %+v", second.SoFar)
			}
			sendFD(t, before, 30)
			receiveConn(t, peer, 30)
			again := openOf(t, c, false)[portOf(t, before)]
			if again.SoFar.Sent != 100 || again.SoFar.Attempt != first.SoFar.Attempt || !again.SoFar.Adopted() {
				t.Errorf("at the next look: %+v", again.SoFar)
			}
			later, _ := pairOf(t)
			if at := openOf(t, c, false)[portOf(t, later)]; at.SoFar.Adopted() || at.SoFar.Established == 0 || at.SoFar.RTT == 0 {
				t.Errorf("a connection of later: %+v", at.SoFar)
			}
			cookie := first.Holder.Cookie
			peer.Close()
			receive(t, before, 0)
			unix.Close(before)
			ended := endOf(t, c, first.SoFar.Attempt)
			if ended.Sent != 100 || ended.Received != 5000 || ended.ClosedBy != ClosedByRemote || ended.Cookie != cookie || ended.From != TCPLastAck {
				t.Errorf("its end: %+v", ended)
			}
		})
	}
}

// endOf waits for the end of an attempt's connection.
func endOf(t *testing.T, c *Capture, of ID) Outcome {
	t.Helper()
	var o Outcome
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		ok, err := c.ReadOutcome(&o)
		switch {
		case err != nil:
			t.Fatal(err)
		case !ok:
			time.Sleep(time.Millisecond)
		case o.Attempt == of && o.Kind == OutcomeClosed:
			return o
		}
	}
	t.Fatal("nobody told its end")
	return o
}

// openOf lists the sockets of this process that are connected to the loopback, by local port.
func openOf(t *testing.T, c *Capture, adopt bool) map[uint16]OpenSocket {
	t.Helper()
	found := map[uint16]OpenSocket{}
	err := c.OpenSockets(adopt, func(s *OpenSocket) {
		if int(s.Holder.Key.Tgid) != os.Getpid() || !s.SoFar.Local.Addr().IsLoopback() {
			return
		}
		whole := *s
		whole.Holder.Remote, whole.Holder.Local = append([]byte(nil), s.Holder.Remote...), nil
		found[s.SoFar.Local.Port()] = whole
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// pairOf returns a connected socket and its peer.
func pairOf(t *testing.T) (fd int, peer *net.TCPConn) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd, connected(t, fd)
}

func portOf(t *testing.T, fd int) uint16 {
	t.Helper()
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.Addr{}, uint16(name.(*unix.SockaddrInet4).Port)).Port()
}

func receiveSome(t *testing.T, fd, n int) {
	t.Helper()
	for buf := make([]byte, n); n > 0; {
		m, err := unix.Read(fd, buf[:n])
		if err != nil || m == 0 {
			t.Fatal(m, err)
		}
		n -= m
	}
}

func receiveConn(t *testing.T, from net.Conn, n int) {
	t.Helper()
	from.SetReadDeadline(time.Now().Add(5 * time.Second))
	for buf := make([]byte, n+1); n > 0; {
		m, err := from.Read(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		n -= m
	}
}
