package doctor

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
)

// discard is the loopback port to connect to. The kernel usually refuses it; a refused connect is recorded too.
const discard = 9

// ways are the ways in which a program connects. Whether the connect succeeds does not matter: it is recorded.
var ways = []struct {
	kind    string
	connect func() (cookie uint64, err error)
}{
	{"inet", func() (uint64, error) { return connectOnce(unix.AF_INET, 0, loopback4()) }},
	{"inet6", func() (uint64, error) { return connectOnce(unix.AF_INET6, 0, loopback6()) }},
	{"unix", func() (uint64, error) {
		return connectOnce(unix.AF_UNIX, 0, &unix.SockaddrUnix{Name: "@conntape doctor"})
	}},
	{"non-blocking", func() (uint64, error) { return connectOnce(unix.AF_INET, unix.SOCK_NONBLOCK, loopback4()) }},
	{"io_uring", connectByRing},
}

func loopback4() unix.Sockaddr {
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: discard}
}

func loopback6() unix.Sockaddr { return &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: discard} }

// openSocket returns a stream socket and its cookie.
func openSocket(domain, flags int) (fd int, cookie uint64, err error) {
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("make socket: %w", err)
	}
	if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("read cookie: %w", err)
	}
	return fd, cookie, nil
}

func connectOnce(domain, flags int, to unix.Sockaddr) (uint64, error) {
	fd, cookie, err := openSocket(domain, flags)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	_ = unix.Connect(fd, to)
	return cookie, nil
}

// connectByRing connects through io_uring.
func connectByRing() (uint64, error) {
	fd, cookie, err := openSocket(unix.AF_INET, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	address := &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: discard << 8, Addr: [4]byte{127, 0, 0, 1}}
	if err := bpf.ConnectByURing(fd, unsafe.Slice((*byte)(unsafe.Pointer(address)), unsafe.Sizeof(*address))); err != nil {
		return 0, fmt.Errorf("connect by io_uring: %w", err)
	}
	return cookie, nil
}
