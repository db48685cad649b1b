package bpf

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// An ICMP error that comes back to a connected UDP socket is told, once for each connect, by the socket's cookie.
func TestUDPErrors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	if version, err := features.LinuxVersionCode(); err != nil || version < 5<<16|14<<8 {
		t.Skip("SKIPPED: before 5.14 no tracepoint tells the error of a socket")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend})
			attachedOrSkip(t, err)
			defer c.Close()
			for _, queue := range []int{0, 1} {
				testUDPErrors(t, c, queue, unix.AF_INET)
				testUDPErrors(t, c, queue, unix.AF_INET6)
			}
		})
	}
}

// testUDPErrors: with queue 1 the caller asks for a queue of errors, and the kernel tells of each twice.
func testUDPErrors(t *testing.T, c *Capture, queue, family int) {
	fd, cookie := openSocket(t, family, unix.SOCK_DGRAM, 0)
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if family == unix.AF_INET6 {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	if err := unix.SetsockoptInt(fd, level, option, queue); err != nil {
		t.Fatal(err)
	}
	sendTo := func(port int) {
		t.Helper()
		var to unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}
		if family == unix.AF_INET6 {
			to = &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: port}
		}
		if err := unix.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		for range 3 { // every second one returns the error of that before
			if _, err := unix.Write(fd, []byte("x")); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				t.Fatal(err)
			}
		}
	}
	sendTo(9)
	sendTo(9)
	sendTo(7)
	const connects = 3
	var got []Outcome
	for deadline := time.Now().Add(5 * time.Second); len(got) < connects && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var o Outcome
		for ok, err := c.ReadOutcome(&o); ok; ok, err = c.ReadOutcome(&o) {
			if err != nil {
				t.Fatal(err)
			}
			if o.Cookie == cookie {
				got = append(got, o)
			}
		}
	}
	if len(got) != connects {
		t.Fatalf("family %d, queue %d: want an error of each connect, once: %+v", family, queue, got)
	}
	for _, o := range got {
		if o.Kind != OutcomeError || o.Errno != uint16(unix.ECONNREFUSED) || o.BootTime == 0 || o.Local.Port() == 0 || !o.Local.Addr().IsLoopback() {
			t.Errorf("%+v", o)
		}
	}
}
