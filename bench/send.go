package main

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of the measures of UDP datagrams of one byte to a socket on the loopback that is never read: its buffer is full, so that they are dropped.
const (
	sendConnected   = "UDP send, connected"
	sendUnconnected = "UDP send, not connected"
)

// sendMeasures are those of sends on a socket that is connected, where no program of ours runs, and on one that is not.
func sendMeasures() ([]measure, error) {
	receiver, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Bind(receiver, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, fmt.Errorf("bind to the loopback: %w", err)
	}
	bound, err := unix.Getsockname(receiver)
	if err != nil {
		return nil, fmt.Errorf("read the address of a socket: %w", err)
	}
	peer := sockaddr([4]byte{127, 0, 0, 1}, uint16(bound.(*unix.SockaddrInet4).Port))
	payload := []byte{0}
	var measures []measure
	for _, name := range []string{sendConnected, sendUnconnected} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("make a socket: %w", err)
		}
		if name == sendConnected {
			if err := unix.Connect(fd, bound); err != nil {
				return nil, fmt.Errorf("connect to the loopback: %w", err)
			}
		}
		var failed error
		measures = append(measures, measure{name: name, batch: 64, batches: 2000, call: func() {
			to, size := uintptr(0), uintptr(0)
			if name == sendUnconnected {
				to, size = address(peer), uintptr(len(peer))
			}
			if _, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), address(payload), 1, 0, to, size); errno != 0 {
				failed = errno
			}
		}, failed: func() error { return failed }})
	}
	return measures, nil
}

func (r *report) sendCost(p *printer) {
	c := r.Costs
	p.line("## A datagram, in the thread that sends it")
	p.line("")
	p.line("UDP to the loopback, which delivers it in the same thread, so that programs on what comes in run, too: connected, which no other program")
	p.line("of ours sees, and to an address that is given with each. The least of %d rounds' medians, in ns; × is of bare.", len(c.Samples[bare]))
	p.line("")
	p.head("variant", "connected", "added", "×", "not connected", "added", "×")
	c.rows(p, sendConnected, sendUnconnected)
}

// rows prints each variant with its calls of some measures, what they add to bare, and as how many times bare.
func (c *costs) rows(p *printer, measures ...string) {
	for _, v := range c.Names {
		cells := []string{v}
		for _, m := range measures {
			cells = append(cells, ns(c.call(v, m)), ns(c.added(v, m)), fmt.Sprintf("%.2f", c.ratio(v, m)))
		}
		p.row(cells...)
	}
	p.line("")
}
