package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A flood is many processes, one after the other, each with many connects.
type flood struct {
	processes, connects, endpoints int
	cpu                            int
	tcp                            bool // whole connections over TCP, both sides, instead of connects of a UDP socket
}

func (f flood) total() int { return f.processes * f.connects }

// run runs the processes and waits for the last.
func (f flood) run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i := range f.processes {
		cmd := exec.CommandContext(ctx, self, "burst", "-seed", strconv.Itoa(i), "-cpu", strconv.Itoa(f.cpu),
			"-connects", strconv.Itoa(f.connects), "-endpoints", strconv.Itoa(f.endpoints), "-tcp="+strconv.FormatBool(f.tcp))
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("process %d of the flood: %w", i, err)
		}
	}
	return nil
}

// runBurst is one process of a flood. It connects a UDP socket, which sends nothing, to loopback addresses, to a few of
// them very often; or it makes TCP connections with itself, each of which it accepts and closes.
func runBurst(args []string) error {
	set := flag.NewFlagSet("burst", flag.ContinueOnError)
	seed := set.Uint64("seed", 0, "for the choice of addresses")
	connects := set.Int("connects", 1000, "how many")
	endpoints := set.Int("endpoints", 1000, "different addresses")
	cpu := set.Int("cpu", 0, "processor to run on")
	tcp := set.Bool("tcp", false, "whole TCP connections")
	if err := set.Parse(args); err != nil {
		return err
	}
	if err := pin(*cpu); err != nil {
		return err
	}
	if *tcp {
		listens, err := newPeer([4]byte{127, 2, byte(*seed), 1}, true) // its own address: of each some 28,000 ports are free in a minute
		if err != nil {
			return err
		}
		for range *connects {
			listens.connect(0, listens.accept)
		}
		return listens.err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	pick := rand.NewZipf(rand.New(rand.NewPCG(*seed, 1)), 1.1, 8, uint64(*endpoints-1))
	for range *connects {
		n := pick.Uint64()
		peer := sockaddr([4]byte{127, 1, byte(n >> 8), byte(n)}, uint16(1024+n%50))
		_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), address(peer), uintptr(len(peer)))
		if errno != 0 {
			return fmt.Errorf("connect: %w", errno)
		}
	}
	return nil
}
