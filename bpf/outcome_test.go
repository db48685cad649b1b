package bpf

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// An outcomeCase connects a socket of ours, which is as it was made, and says what must come of it.
type outcomeCase struct {
	name  string
	run   func(t *testing.T, fd int)
	want  Outcome // the last: errno, state before, who closed, bytes
	never bool    // it is never established
}

func outcomeCases() []outcomeCase {
	all := []outcomeCase{
		{name: "refused", run: func(t *testing.T, fd int) { connectTo(t, fd, closedPort(t), unix.ECONNREFUSED) },
			want: Outcome{From: TCPSynSent, Errno: uint16(unix.ECONNREFUSED)}, never: true},
		{name: "refused later", run: func(t *testing.T, fd int) {
			unblock(t, fd)
			connectTo(t, fd, closedPort(t), unix.EINPROGRESS)
			time.Sleep(10 * time.Millisecond)
		}, want: Outcome{From: TCPSynSent, Errno: uint16(unix.ECONNREFUSED)}, never: true},
		{name: "aborted", run: func(t *testing.T, fd int) {
			unblock(t, fd)
			connectTo(t, fd, fullListener(t), unix.EINPROGRESS)
		}, want: Outcome{From: TCPSynSent}, never: true},
		{name: "peer resets", run: func(t *testing.T, fd int) {
			peer := connected(t, fd)
			peer.SetLinger(0)
			peer.Close()
			time.Sleep(10 * time.Millisecond)
		}, want: Outcome{From: TCPEstablished, Errno: uint16(unix.ECONNRESET)}},
		{name: "we reset", run: func(t *testing.T, fd int) {
			connected(t, fd)
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}, want: Outcome{From: TCPEstablished}},
		{name: "half close", run: func(t *testing.T, fd int) {
			peer := connected(t, fd)
			unix.Shutdown(fd, unix.SHUT_WR)
			send(t, peer, 1000)
			peer.Close()
			receive(t, fd, 1000)
		}, want: Outcome{From: TCPFinWait2, ClosedBy: ClosedByLocal, Received: 1000}},
	}
	for _, n := range []int{0, 1, 1 << 20, 100 << 20} {
		all = append(all,
			outcomeCase{name: fmt.Sprintf("send %d", n), run: func(t *testing.T, fd int) {
				peer := connected(t, fd)
				done := make(chan struct{})
				go func() { io.Copy(io.Discard, peer); peer.Close(); close(done) }()
				sendFD(t, fd, n)
				unix.Close(fd)
				<-done
			}, want: Outcome{From: TCPFinWait2, ClosedBy: ClosedByLocal, Sent: uint64(n)}},
			outcomeCase{name: fmt.Sprintf("receive %d", n), run: func(t *testing.T, fd int) {
				peer := connected(t, fd)
				go func() { send(t, peer, n); peer.Close() }()
				receive(t, fd, n)
			}, want: Outcome{From: TCPLastAck, ClosedBy: ClosedByRemote, Received: uint64(n)}})
	}
	return all
}

// TestOutcomes has every backend that attaches here tell what became of connections, to the byte.
func TestOutcomes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend})
			attachedOrSkip(t, err)
			defer c.Close()
			for _, one := range outcomeCases() {
				t.Run(one.name, func(t *testing.T) { one.hold(t, c) })
			}
			n, err := c.Counters()
			if err != nil || n.OutcomeSeen != n.OutcomeSent || n.OutcomeLost != 0 || n.OutcomeSent == 0 {
				t.Errorf("outcomes seen %d, sent %d, lost %d, %v", n.OutcomeSeen, n.OutcomeSent, n.OutcomeLost, err)
			}
		})
	}
}

// attachedOrSkip skips a test of a backend that this kernel has not got, and fails one of which the kernel refused a program.
func attachedOrSkip(t *testing.T, err error) {
	t.Helper()
	var refused *ebpf.VerifierError
	switch {
	case errors.As(err, &refused) && len(refused.Log) > 0:
		t.Fatal(err)
	case errors.Is(err, ErrKernel):
		t.Skip("SKIPPED: this backend does not attach here:", err)
	case err != nil:
		t.Fatal(err)
	}
}

// hold runs a case and compares the records of its connection.
func (one *outcomeCase) hold(t *testing.T, c *Capture) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	one.run(t, fd)
	unix.Close(fd)
	attempt := attemptOf(t, c, cookie)
	got := outcomesOf(t, c, cookie)
	last := got[len(got)-1]
	if last.Kind != OutcomeClosed || last.From != one.want.From || last.Errno != one.want.Errno || last.ClosedBy != one.want.ClosedBy ||
		last.Sent != one.want.Sent || last.Received != one.want.Received {
		t.Errorf("the connection ended with %+v, want %+v", last, one.want)
	}
	for _, o := range got {
		if o.Attempt != attempt.ID() || o.BootTime < attempt.BootTime || !o.Local.Addr().IsValid() || o.Local.Port() == 0 {
			t.Errorf("%+v does not belong to %+v", o, attempt)
		}
	}
	switch {
	case one.never && (len(got) != 1 || last.Established != 0):
		t.Errorf("it was never established, but is: %+v", got)
	case !one.never && (len(got) != 2 || got[0].Kind != OutcomeEstablished || got[0].Established == 0 || last.Established != got[0].Established ||
		got[0].RTT == 0 || got[0].Local != last.Local):
		t.Errorf("want that it was established, and ended: %+v", got)
	}
}

func attemptOf(t *testing.T, c *Capture, cookie uint64) Connect {
	t.Helper()
	var first, rec Connect
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if err := c.ReadConnect(time.Now().Add(10*time.Millisecond), &rec); err == nil && rec.Cookie == cookie && first.BootTime == 0 {
			first = rec
		} else if err != nil && first.BootTime != 0 {
			return first
		}
	}
	t.Fatal("the connect was not recorded")
	return rec
}

// outcomesOf waits until the connection is over.
func outcomesOf(t *testing.T, c *Capture, cookie uint64) (all []Outcome) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var o Outcome
		for {
			ok, err := c.ReadOutcome(&o)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if o.Cookie == cookie {
				all = append(all, o)
			}
		}
		if len(all) > 0 && all[len(all)-1].Kind == OutcomeClosed {
			return all
		}
	}
	t.Fatalf("nobody said that the connection was over: %+v", all)
	return nil
}

func connectTo(t *testing.T, fd int, to netip.AddrPort, want error) {
	t.Helper()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); !errors.Is(err, want) {
		t.Fatalf("connect to %v: %v, want %v", to, err, want)
	}
}

func unblock(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
}

func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// fullListener answers no SYN: its backlog is full.
func fullListener(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(l, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(l) })
	name, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	fill, err := net.Dial("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fill.Close() })
	return at
}

// connected connects the socket to one of ours, which it returns.
func connected(t *testing.T, fd int) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connectTo(t, fd, l.Addr().(*net.TCPAddr).AddrPort(), nil)
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return peer.(*net.TCPConn)
}

func send(t *testing.T, to io.Writer, n int) {
	if _, err := io.CopyN(to, zeros{}, int64(n)); err != nil {
		t.Error(err)
	}
}

func sendFD(t *testing.T, fd, n int) {
	buf := make([]byte, 64<<10)
	for n > 0 {
		m, err := unix.Write(fd, buf[:min(n, len(buf))])
		if err != nil {
			t.Error(err)
			return
		}
		n -= m
	}
}

// receive reads to the end, and wants n bytes.
func receive(t *testing.T, fd, n int) {
	buf := make([]byte, 64<<10)
	for got := 0; ; {
		m, err := unix.Read(fd, buf)
		if err != nil {
			t.Error(err)
			return
		}
		if got += m; m == 0 {
			if got != n {
				t.Errorf("received %d bytes, want %d", got, n)
			}
			return
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// openSocket makes a socket, which is closed when the test ends, and returns its cookie too.
func openSocket(t *testing.T, family, kind, protocol int) (fd int, cookie uint64) {
	t.Helper()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
		t.Fatal(err)
	}
	return fd, cookie
}
