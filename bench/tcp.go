package main

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of the measures of whole TCP connections: socket, connect, close. In the second one the same thread also accepts
// and closes the other side.
const (
	tcpRefused = "TCP refused"
	tcpClosed  = "TCP established and closed"
)

// tcpBatches limits the batches of TCP connections: each connection takes one of some 28,000 ports.
const tcpBatches = 200

// A peer is a loopback TCP port, with the first error of a connection to it.
type peer struct {
	listener int
	address  []byte // a struct sockaddr
	err      error
}

// newPeer makes a peer at a loopback address that listens or refuses.
func newPeer(at [4]byte, listens bool) (*peer, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: at}); err != nil { // without listen it refuses
		return nil, fmt.Errorf("bind to the loopback: %w", err)
	}
	if listens {
		if err := unix.Listen(fd, 8); err != nil {
			return nil, fmt.Errorf("listen on the loopback: %w", err)
		}
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("read the address of a socket: %w", err)
	}
	return &peer{listener: fd, address: sockaddr(at, uint16(bound.(*unix.SockaddrInet4).Port))}, nil
}

// connect makes a socket, connects it and closes it. It calls between while connected; want is the expected errno of connect.
func (p *peer) connect(want syscall.Errno, between func() syscall.Errno) {
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		p.fail("make a socket", errno)
		return
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, fd, address(p.address), uintptr(len(p.address))); errno != want {
		p.fail("connect", errno)
	} else if errno := between(); errno != 0 {
		p.fail("accept", errno)
	}
	syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
}

func (p *peer) fail(doing string, errno syscall.Errno) {
	if p.err == nil {
		p.err = fmt.Errorf("%s: %w", doing, errno)
	}
}

// accept accepts the connection and closes it before the other side does.
func (p *peer) accept() syscall.Errno {
	fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(p.listener), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
	if errno == 0 {
		syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	}
	return errno
}

// tcpMeasures are the measures of TCP connections, paced so that the recorder keeps up.
func tcpMeasures() ([]measure, error) {
	refuses, err := newPeer([4]byte{127, 0, 0, 1}, false)
	if err != nil {
		return nil, err
	}
	listens, err := newPeer([4]byte{127, 0, 0, 1}, true)
	if err != nil {
		return nil, err
	}
	nothing := func() syscall.Errno { return 0 }
	paced := measure{batch: 32, batches: tcpBatches, group: 8, pause: connectPause}
	refused, closed := paced, paced
	refused.name, refused.call, refused.failed = tcpRefused, func() { refuses.connect(unix.ECONNREFUSED, nothing) }, func() error { return refuses.err }
	closed.name, closed.call, closed.failed = tcpClosed, func() { listens.connect(0, listens.accept) }, func() error { return listens.err }
	return []measure{refused, closed}, nil
}

// tcpCost prints the cost of whole TCP connections.
func (r *report) tcpCost(p *printer) {
	c := r.Costs
	p.line("## A TCP connection, from socket to close")
	p.line("")
	p.line("Over the loopback, paced as above: refused; and established, accepted and closed by the same thread, so that it is")
	p.line("the cost of both sides. The least of the rounds' medians.")
	p.line("")
	p.head("variant", "refused, ns", "added", "× bare", "× empty programs' addition", "established and closed, ns", "added", "× bare", "× empty programs' addition")
	for _, v := range c.Names {
		cells := []string{v}
		for _, m := range []string{tcpRefused, tcpClosed} {
			times := "–"
			if v != bare {
				times = fmt.Sprintf("%.1f", c.added(v, m)/c.added(empty, m))
			}
			cells = append(cells, ns(c.call(v, m)), ns(c.added(v, m)), fmt.Sprintf("%.2f", c.ratio(v, m)), times)
		}
		p.row(cells...)
	}
	p.line("")
}
