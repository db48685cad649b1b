package main

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
)

// Names of the measures while a packet socket is open: a frame that it sends to the loopback, where nobody wants it, and a datagram of somebody
// else. Where no function of packet sockets alone can be watched, a program runs for these and for the traffic of connections, too.
const (
	frameSent     = "a frame"
	frameDatagram = "UDP send beside it, connected"
	framePingPong = "TCP, 1 byte there and back, beside it"
	frame64K      = "TCP, 64 KiB, beside it"
)

// frameBytes is the length of a frame.
const frameBytes = 60

// openPacketSocket opens a packet socket that receives nothing.
func openPacketSocket() (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, fmt.Errorf("make a packet socket: %w", err)
	}
	return fd, nil
}

// startEmptyFrames attaches an empty program where the backend has its own for frames.
func startEmptyFrames(b bpf.Backend) (stop func() error, err error) {
	load := func(spec ebpf.ProgramSpec, attach func(*ebpf.Program) (link.Link, error)) (func() error, error) {
		spec.License, spec.Instructions = "Dual MIT/GPL", asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
		p, err := ebpf.NewProgram(&spec)
		if err != nil {
			return nil, fmt.Errorf("load empty program: %w", err)
		}
		l, err := attach(p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach empty program: %w", err), p.Close())
		}
		return func() error { return errors.Join(l.Close(), p.Close()) }, nil
	}
	tracing := func(p *ebpf.Program) (link.Link, error) { return link.AttachTracing(link.TracingOptions{Program: p}) }
	const function = "packet_xmit" // from Linux 6.4 on
	if b == bpf.Fexit {
		stop, err = load(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: function}, tracing)
	} else {
		stop, err = load(ebpf.ProgramSpec{Type: ebpf.Kprobe}, func(p *ebpf.Program) (link.Link, error) { return link.Kprobe(function, p, nil) })
	}
	if err == nil {
		return stop, nil
	}
	return load(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "net_dev_queue"}, tracing)
}

// frameMeasures are those while a packet socket is open.
func frameMeasures() ([]measure, error) {
	fd, err := openPacketSocket()
	if err != nil {
		return nil, err
	}
	frame := make([]byte, frameBytes)
	frame[12], frame[13] = 0x88, 0xb5 // of an experiment
	const loopback = 1                // the first device of a network namespace
	to := []byte{0: unix.AF_PACKET, 2: 0x88, 3: 0xb5, 4: loopback, unix.SizeofSockaddrLinklayer - 1: 0}
	var failed error
	measures := []measure{{name: frameSent, batch: 32, batches: 2000, call: func() {
		if _, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), address(frame), frameBytes, 0, address(to), uintptr(len(to))); errno != 0 {
			failed = errno
		}
	}, failed: func() error { return failed }}}
	sends, err := sendMeasures()
	if err != nil {
		return nil, err
	}
	sends[0].name = frameDatagram
	traffic, err := trafficMeasures(framePingPong, frame64K)
	return slices.Concat(measures, sends[:1], traffic), err
}

func (r *report) frameCost(p *printer) {
	c := r.Costs
	p.line("## While a packet socket is open")
	p.line("")
	p.line("A frame of %d bytes to the loopback, sent by a packet socket and counted; and what others send meanwhile, as above. Where the program", frameBytes)
	p.line("for frames is at the queue of devices (`net_dev_queue`), others pay for it; where it is at `packet_xmit`, they do not. The least of")
	p.line("%d rounds' medians, in ns; × is of bare.", len(c.Samples[bare]))
	p.line("")
	p.head("variant", "frame", "added", "×", "UDP send", "added", "×", "TCP, 1 byte there and back", "added", "×", "TCP, 64 KiB", "added", "×")
	c.rows(p, frameSent, frameDatagram, framePingPong, frame64K)
}
