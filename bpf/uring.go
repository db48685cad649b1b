package bpf

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What include/uapi/linux/io_uring.h fixes.
const (
	uringConnect   = 16         // IORING_OP_CONNECT, 5.5
	uringOffSQEs   = 0x10000000 // IORING_OFF_SQES
	uringSQESize   = 64
	uringCQESize   = 16
	uringEntries   = 1
	uringGetEvents = 1 // IORING_ENTER_GETEVENTS
)

// uringOffsets are struct io_sqring_offsets, or struct io_cqring_offsets, where the last two have other meanings that are not needed.
type uringOffsets struct {
	head, tail, mask, entries, flags, dropped, array, reserved uint32
	address                                                    uint64
}

// uringParams are struct io_uring_params. Of the completion ring, entries is followed by overflow and cqes, where the
// submission ring has flags and dropped.
type uringParams struct {
	sqEntries, cqEntries, flags, threadCPU, threadIdle, features, workers uint32
	reserved                                                              [3]uint32
	sq, cq                                                                uringOffsets
}

// uring is an io_uring with room for one request. It is made for a round of probes and closed again: one that is kept would
// take pages and a descriptor all the time.
type uring struct {
	fd     int
	params uringParams
	rings  []byte // both rings share a mapping since 5.4
	sqe    []byte
}

// openURing fails where the host, or a seccomp filter on this process, allows no io_uring.
func openURing() (*uring, error) {
	u := &uring{}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uringEntries, uintptr(unsafe.Pointer(&u.params)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	u.fd = int(fd)
	size := max(u.params.sq.array+4*u.params.sqEntries, u.params.cq.dropped+uringCQESize*u.params.cqEntries)
	var err error
	if u.rings, err = unix.Mmap(u.fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err == nil {
		u.sqe, err = unix.Mmap(u.fd, uringOffSQEs, uringSQESize*int(u.params.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	if err != nil {
		u.close()
		return nil, fmt.Errorf("map io_uring: %w", err)
	}
	return u, nil
}

func (u *uring) close() {
	_ = unix.Munmap(u.sqe)
	_ = unix.Munmap(u.rings)
	_ = unix.Close(u.fd)
}

// word is a number of the rings that the kernel reads or writes at the same time.
func (u *uring) word(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&u.rings[offset])) }

// connect issues a connect and returns what it returned, a positive errno or 0. A socket that connects without waiting is
// connected when io_uring_enter(2) returns.
func (u *uring) connect(fd int, to []byte) (errno unix.Errno, err error) {
	var pin runtime.Pinner // the address must stay where the request says that it is
	pin.Pin(&to[0])
	defer pin.Unpin()
	n := binary.NativeEndian
	clear(u.sqe)
	u.sqe[0] = uringConnect
	n.PutUint32(u.sqe[4:], uint32(fd))
	n.PutUint64(u.sqe[8:], uint64(len(to)))
	n.PutUint64(u.sqe[16:], uint64(uintptr(unsafe.Pointer(&to[0]))))
	tail := u.word(u.params.sq.tail)
	*u.word(u.params.sq.array) = 0 // the only request
	atomic.StoreUint32(tail, *tail+1)
	if _, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(u.fd), 1, 1, uringGetEvents, 0, 0); e != 0 {
		return 0, fmt.Errorf("io_uring_enter: %w", e)
	}
	head := u.word(u.params.cq.head)
	if atomic.LoadUint32(u.word(u.params.cq.tail)) == *head {
		return 0, fmt.Errorf("io_uring_enter: %w", unix.EAGAIN)
	}
	at := u.params.cq.dropped + (*head&*u.word(u.params.cq.mask))*uringCQESize // cqes
	result := int32(n.Uint32(u.rings[at+8:]))
	atomic.StoreUint32(head, *head+1)
	return unix.Errno(max(0, -result)), nil
}

// ConnectByURing has a socket connect to an address, as connect(2) takes it, through an io_uring that is made for it. It fails
// where none can be used; what the connect itself returns is no error.
func ConnectByURing(fd int, to []byte) error {
	u, err := openURing()
	if err != nil {
		return err
	}
	defer u.close()
	_, err = u.connect(fd, to)
	return err
}

// uringDenied tells why this process may not use io_uring, "" when it may.
func uringDenied() string {
	u, err := openURing()
	if err == nil {
		u.close()
		return ""
	}
	if off, e := os.ReadFile("/proc/sys/kernel/io_uring_disabled"); e == nil && strings.TrimSpace(string(off)) != "0" {
		return fmt.Sprintf("%v, kernel.io_uring_disabled is %s", err, strings.TrimSpace(string(off)))
	}
	return err.Error()
}
