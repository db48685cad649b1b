package bpf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Probe is a connect of our own, made to see whether the hooks see it.
type Probe struct {
	Cookie uint64 // SO_COOKIE of its socket, which its record has; no other socket ever has it
	What   string // for people
}

// probes are the addresses that are connected to. None of these connects sends anything: a datagram socket only notes its
// peer, the discard port of the loopback, and nobody has the abstract name.
var probes = []struct {
	what   string
	domain int
	to     unix.Sockaddr
}{
	{"connect(2) to IPv4", unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}},
	{"connect(2) to IPv6", unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: 9}},
	{"connect(2) to UNIX", unix.AF_UNIX, &unix.SockaddrUnix{Name: "@conntape probe"}},
}

// Probe connects once to an address of each family that this host has, and returns the connects whose records must come
// through the ring. Whatever a connect returns, it is an attempt.
func (c *Capture) Probe() ([]Probe, error) {
	var made []Probe
	for _, p := range probes {
		cookie, err := connectOnce(p.domain, p.to)
		if err == unix.EAFNOSUPPORT {
			continue
		}
		if err != nil {
			return made, fmt.Errorf("probe %s: %w", p.what, err)
		}
		made = append(made, Probe{cookie, p.what})
	}
	return made, nil
}

// connectOnce connects a datagram socket and returns its cookie.
func connectOnce(domain int, to unix.Sockaddr) (cookie uint64, err error) {
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
		return 0, err
	}
	_ = unix.Connect(fd, to)
	return cookie, nil
}
