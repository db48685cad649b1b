package main

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The part of include/uapi/linux/io_uring.h for a NOP.
const (
	uringEntries    = 8
	uringSubmission = 64 // bytes of an io_uring_sqe; its zero value is a NOP
	offsetSQRing    = 0
	offsetSQEs      = 0x10000000
	enterGetEvents  = 1
)

type uringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, workers uint32
	reserved                                                  [3]uint32
	sq                                                        struct {
		head, tail, mask, entries, flags, dropped, array, reserved uint32
		userAddr                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, reserved uint32
		userAddr                                                   uint64
	}
}

// newNop returns a function that submits one NOP and takes its completion. The error is the bare errno.
func newNop() (func(), error) {
	var p uringParams
	fd, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, uringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, unix.Errno(errno)
	}
	// Since 5.4 both rings are in one mapping.
	size := max(p.sq.array+4*p.sqEntries, p.cq.cqes+16*p.cqEntries)
	ring, err := unix.Mmap(int(fd), offsetSQRing, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	// The mapped submissions stay zero: a NOP.
	_, err = unix.Mmap(int(fd), offsetSQEs, int(uringSubmission*p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	for i := range p.sqEntries {
		binary.NativeEndian.PutUint32(ring[p.sq.array+4*i:], i)
	}
	tail := (*atomic.Uint32)(unsafe.Pointer(&ring[p.sq.tail]))
	done := (*atomic.Uint32)(unsafe.Pointer(&ring[p.cq.head]))
	return func() {
		tail.Add(1)
		syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, enterGetEvents, 0, 0)
		done.Add(1)
	}, nil
}

// address returns the address of a buffer for a system call. The caller keeps the buffer alive.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// sockaddr is a struct sockaddr_in.
func sockaddr(ip [4]byte, port uint16) []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint16(b, unix.AF_INET)
	binary.BigEndian.PutUint16(b[2:], port)
	copy(b[4:], ip[:])
	return b
}
