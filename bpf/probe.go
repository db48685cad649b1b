package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Probe is a connect of our own, made to see whether the hooks see it.
type Probe struct {
	Cookie uint64 // SO_COOKIE of its socket, which its record has; no other socket ever has it
	What   string // for people
}

type probeFamily struct {
	name   string
	domain int
	to     []byte // struct sockaddr
}

// probeFamilies are the addresses that are connected to. None of these connects sends anything: a datagram socket only notes
// its peer, the discard port of the loopback, and nobody has the abstract name.
var probeFamilies = []probeFamily{
	{"IPv4", unix.AF_INET, []byte{2: 0, 3: 9, 4: 127, 7: 1, 15: 0}},
	{"IPv6", unix.AF_INET6, []byte{2: 0, 3: 9, 23: 1, 27: 0}},
	{"UNIX", unix.AF_UNIX, append(make([]byte, 3), "conntape probe"...)},
}

// ErrNoURing means that this process may not use io_uring, so that its path is not probed.
var ErrNoURing = errors.New("io_uring is not allowed")

// Checks returns the connects that Open made. Their records are in the ring, as those of [Capture.Probe] will be.
func (c *Capture) Checks() []Probe { return c.checks }

// Probe connects once to an address of each family that this host has, by connect(2) and by io_uring, whose connects run
// into the hooks by another way, and returns the connects whose records must come through the ring. Whatever a connect
// returns, it is an attempt. The error wraps ErrNoURing where only the second half could not be made.
func (c *Capture) Probe() ([]Probe, error) {
	made, err := c.probeAll("connect(2)", connectPlainly)
	if err != nil {
		return made, err
	}
	ring, err := openURing()
	if err != nil {
		return made, fmt.Errorf("%w: %w", ErrNoURing, err)
	}
	defer ring.close()
	more, err := c.probeAll("io_uring", func(fd int, to []byte) error {
		errno, err := ring.connect(fd, to)
		if err != nil {
			return err
		}
		if c.backend == Cgroup && (errno == unix.EPERM || errno == unix.EACCES || errno == unix.EINVAL) {
			return errRefused // by a security module, or a kernel that does not know the request: before the hooks
		}
		return nil
	})
	return append(made, more...), err
}

// IsProbe tells whether a connect went where probes go.
func IsProbe(c *Connect) bool {
	return slices.ContainsFunc(probeFamilies, func(f probeFamily) bool {
		return int(c.SocketFamily) == f.domain && len(c.Remote) >= len(f.to) && bytes.Equal(c.Remote[2:len(f.to)], f.to[2:])
	})
}

// errRefused means that a connect of ours never came to the hooks.
var errRefused = errors.New("refused before the hooks")

func connectPlainly(fd int, to []byte) error {
	_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to[0])), uintptr(len(to)))
	return nil
}

// probeAll connects to each family by one way.
func (c *Capture) probeAll(way string, connect func(fd int, to []byte) error) (made []Probe, err error) {
	for _, f := range probeFamilies {
		if f.domain == unix.AF_UNIX && way == "io_uring" && !c.seesURingUnix() {
			continue
		}
		cookie, err := connectOnce(f.domain, f.to, connect)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, errRefused) {
			continue
		}
		if err != nil {
			return made, fmt.Errorf("probe %s to %s: %w", way, f.name, err)
		}
		made = append(made, Probe{cookie, way + " to " + f.name})
	}
	return made, nil
}

// seesURingUnix tells whether this backend has a hook that sees io_uring connect a UNIX socket.
func (c *Capture) seesURingUnix() bool {
	return c.backend != Cgroup || slices.ContainsFunc(c.attached, func(a attachment) bool { return a.hook.program == "cgroup_connect_unix" })
}

// connectOnce connects a datagram socket and returns its cookie.
func connectOnce(domain int, to []byte, connect func(fd int, to []byte) error) (cookie uint64, err error) {
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
		return 0, err
	}
	to = slices.Clone(to)
	binary.NativeEndian.PutUint16(to, uint16(domain))
	return cookie, connect(fd, to)
}
