package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of the measures of a socket that is made and closed, on which a program looks whether it can sniff or forge.
const (
	socketTCP = "TCP socket, made and closed"
	socketUDP = "UDP socket, made and closed"
)

// socketMeasures are those of sockets that nobody connects.
func socketMeasures() []measure {
	var measures []measure
	for _, one := range []struct {
		name string
		kind uintptr
	}{{socketTCP, unix.SOCK_STREAM}, {socketUDP, unix.SOCK_DGRAM}} {
		var failed error
		measures = append(measures, measure{name: one.name, batch: 32, batches: 2000, call: func() {
			fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, one.kind, 0)
			if errno != 0 {
				failed = errno
				return
			}
			syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}, failed: func() error { return failed }})
	}
	return measures
}

func (r *report) socketCost(p *printer) {
	c := r.Costs
	p.line("## A socket, made and closed")
	p.line("")
	p.line("In the thread that does so. A program looks whether the socket can sniff or forge, which these cannot. The least of %d rounds'", len(c.Samples[bare]))
	p.line("medians, in ns; × is of bare.")
	p.line("")
	p.head("variant", "TCP", "added", "×", "UDP", "added", "×")
	c.rows(p, socketTCP, socketUDP)
}
