package bpf

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// fill waits for a ring to reach its fill level, by Go's own poller. A ringbuf.Reader would block a thread in epoll_wait, and
// the runtime's monitor then looks every 20 us, for up to 10 ms, whether to take that thread's processor away: most of
// the wakeups of an idle recorder.
type fill struct {
	file *os.File
	conn syscall.RawConn
	ring *ring

	interrupted atomic.Bool
}

func watchFill(ring *ebpf.Map, reader *ring) (*fill, error) {
	fd, err := unix.FcntlInt(uintptr(ring.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("copy descriptor: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or os would not poll it
		unix.Close(fd)
		return nil, fmt.Errorf("set nonblocking: %w", err)
	}
	f := &fill{file: os.NewFile(uintptr(fd), "ring"), ring: reader}
	if f.conn, err = f.file.SyscallConn(); err == nil {
		err = f.file.SetReadDeadline(time.Time{}) // refuses what cannot be polled
	}
	if err != nil {
		_ = f.file.Close()
		return nil, fmt.Errorf("poll: %w", err)
	}
	return f, nil
}

// wait returns nil when there is something in the ring already, or when a program has woken us. It returns
// os.ErrDeadlineExceeded when the deadline has passed or interrupt was called, and os.ErrClosed after close.
func (f *fill) wait(deadline time.Time) error {
	if err := f.file.SetReadDeadline(deadline); err != nil {
		return err
	}
	if f.interrupted.Swap(false) { // a later one finds the deadline set, and moves it
		return os.ErrDeadlineExceeded
	}
	woken := false
	return f.conn.Read(func(uintptr) bool {
		if woken {
			return true
		}
		woken = true
		// Read has just forgotten the wakeups before it, and there is one a filling.
		return f.ring.unread() > 0
	})
}

func (f *fill) interrupt() {
	f.interrupted.Store(true)
	_ = f.file.SetReadDeadline(time.Unix(1, 0)) // fails only once it is closed, which interrupts too
}

func (f *fill) close() error { return f.file.Close() }
