package recorder

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// Kinds of anchors.
const (
	anchorStart = "start"
	anchorTick  = "tick" // once a minute: the kernel's discipline moves realtime slowly
	anchorStep  = "step" // somebody set the clock, or the host was resumed
)

const anchorSeconds = 60

// bootNow returns CLOCK_BOOTTIME in ns: the clock of every record.
func bootNow() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // the clock is there since Linux 2.6.39
	}
	return uint64(ts.Nano())
}

// takeAnchor reads both clocks at one instant: of several readings the one between whose two looks at boottime the
// least time went by.
func takeAnchor(kind string) store.Anchor {
	a := store.Anchor{Kind: kind, Sync: syncState()}
	best := uint64(math.MaxUint64)
	for range 5 {
		before := bootNow()
		var real unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &real); err != nil {
			continue
		}
		after := bootNow()
		if after-before < best {
			best = after - before
			a.Boot, a.Real = before+(after-before)/2, real.Nano()
		}
	}
	return a
}

// syncState says what the kernel thinks of its clock (adjtimex(2)).
func syncState() string {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return ""
	}
	if state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return "unsynchronized"
	}
	return "synchronized"
}

// anchors collects readings of the clocks until a batch takes them.
type anchors struct {
	mu   sync.Mutex
	list []store.Anchor
}

func (a *anchors) add(x ...store.Anchor) {
	a.mu.Lock()
	a.list = append(a.list, x...)
	a.mu.Unlock()
}

func (a *anchors) take() []store.Anchor {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

func (a *anchors) pending() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.list) > 0
}

// watchClock adds an anchor each minute and whenever the clock is set, until ctx ends. It sleeps in between: the kernel
// cancels the timer when realtime jumps (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
func watchClock(ctx context.Context, a *anchors) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("create clock timer: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	stop := context.AfterFunc(ctx, func() { timer.Close() })
	defer stop()
	defer timer.Close()
	raw, err := timer.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch clock: %w", err)
	}
	var expirations [8]byte
	for {
		if err := armTimer(raw.Control); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("set clock timer: %w", err)
		}
		_, err := timer.Read(expirations[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ECANCELED):
			a.add(takeAnchor(anchorStep))
		case err != nil:
			return fmt.Errorf("watch clock: %w", err)
		case binary.NativeEndian.Uint64(expirations[:]) > 0:
			a.add(takeAnchor(anchorTick))
		}
	}
}

func armTimer(control func(func(fd uintptr)) error) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	now.Sec += anchorSeconds
	var set error
	err := control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &unix.ItimerSpec{Value: now}, nil)
	})
	return errors.Join(err, set)
}
