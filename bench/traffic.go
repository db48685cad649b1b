package main

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of the measures of an open TCP connection over the loopback, both ends of which are in the thread that is measured.
const (
	pingPong = "TCP, 1 byte there and back"
	send64K  = "TCP, 64 KiB"
)

// trafficMeasures are those of a connection: a byte there and back, and 64 KiB one way, each sent and received.
func trafficMeasures(short, long string) ([]measure, error) {
	one, other, err := connected()
	if err != nil {
		return nil, err
	}
	var failed error
	move := func(from, to int, buf []byte) {
		if n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(from), address(buf), uintptr(len(buf))); int(n) != len(buf) {
			failed = fmt.Errorf("write %d of %d bytes: %w", int(n), len(buf), errno)
			return
		}
		for got := 0; got < len(buf); {
			n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(to), address(buf), uintptr(len(buf)))
			if errno != 0 || n == 0 {
				failed = fmt.Errorf("read: %w", errors.Join(errno, errors.New("it is not all")))
				return
			}
			got += int(n)
		}
	}
	byteOf, block := make([]byte, 1), make([]byte, 64<<10)
	of := func(name string, call func()) measure {
		return measure{name: name, batch: 32, batches: 1000, call: call, failed: func() error { return failed }}
	}
	return []measure{
		of(short, func() { move(one, other, byteOf); move(other, one, byteOf) }),
		of(long, func() { move(one, other, block) }),
	}, nil
}

// connected returns both ends of a TCP connection over the loopback.
func connected() (one, other int, err error) {
	p, err := newPeer([4]byte{127, 0, 0, 1}, true)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(p.listener)
	at, err := unix.Getsockname(p.listener)
	if err != nil {
		return 0, 0, fmt.Errorf("read the address of a socket: %w", err)
	}
	if one, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Connect(one, at); err != nil {
		return 0, 0, fmt.Errorf("connect to the loopback: %w", err)
	}
	if other, _, err = unix.Accept(p.listener); err != nil {
		return 0, 0, fmt.Errorf("accept: %w", err)
	}
	for _, fd := range []int{one, other} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return 0, 0, fmt.Errorf("set an option of a socket: %w", err)
		}
	}
	return one, other, nil
}

func (r *report) trafficCost(p *printer) {
	c := r.Costs
	p.line("## What an open connection sends and receives")
	p.line("")
	p.line("TCP over the loopback, sent and received by the same thread. conntape has no program on what is sent; one of the root cgroup runs for")
	p.line("what comes in, and looks whether it is from port 53. The least of %d rounds' medians, in ns; × is of bare.", len(c.Samples[bare]))
	p.line("")
	p.head("variant", "1 byte there and back", "added", "×", "64 KiB", "added", "×")
	c.rows(p, pingPong, send64K)
}
