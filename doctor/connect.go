package doctor

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// discard is the port that is connected to on the loopback. TCP is refused there, as a rule; whatever becomes of it is an attempt.
const discard = 9

// ways are those in which a program connects. A connect that fails is one all the same.
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

// The parts of io_uring's interface that one connect takes (include/uapi/linux/io_uring.h).
const (
	opConnect      = 16
	offsetSQRing   = 0
	offsetSQEs     = 0x10000000
	enterGetEvents = 1
)

type ringOffsets struct{ head, tail, mask, entries, flags, dropped, array, reserved, addr, addrHigh uint32 }

type ringParams struct {
	sqEntries, cqEntries, flags, sqCPU, sqIdle, features, wqFD uint32
	reserved                                                   [3]uint32
	sq, cq                                                     ringOffsets
}

type ringEntry struct {
	opcode, flags uint8
	priority      uint16
	fd            int32
	offset, addr  uint64
	length, op    uint32
	userData      uint64
	pad           [3]uint64
}

// connectByRing connects through a ring of one entry.
func connectByRing() (uint64, error) {
	var p ringParams
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("this host has no io_uring for this program: %w", errno)
	}
	defer unix.Close(int(ring))
	queue, err := unix.Mmap(int(ring), offsetSQRing, int(p.sq.array+4*p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return 0, fmt.Errorf("map ring: %w", err)
	}
	defer unix.Munmap(queue)
	entries, err := unix.Mmap(int(ring), offsetSQEs, int(p.sqEntries)*int(unsafe.Sizeof(ringEntry{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return 0, fmt.Errorf("map entries: %w", err)
	}
	defer unix.Munmap(entries)
	fd, cookie, err := openSocket(unix.AF_INET, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	address := &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: discard << 8, Addr: [4]byte{127, 0, 0, 1}}
	var pinned runtime.Pinner // the kernel reads it while it connects
	pinned.Pin(address)
	defer pinned.Unpin()
	*(*ringEntry)(unsafe.Pointer(&entries[0])) = ringEntry{opcode: opConnect, fd: int32(fd),
		addr: uint64(uintptr(unsafe.Pointer(address))), offset: uint64(unsafe.Sizeof(*address))}
	*(*uint32)(unsafe.Pointer(&queue[p.sq.array])) = 0
	*(*uint32)(unsafe.Pointer(&queue[p.sq.tail]))++
	_, _, errno = unix.Syscall6(unix.SYS_IO_URING_ENTER, ring, 1, 1, enterGetEvents, 0, 0)
	if errno != 0 {
		return 0, fmt.Errorf("submit to ring: %w", errno)
	}
	return cookie, nil
}
