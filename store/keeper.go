package store

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// The keeper is a goroutine that seals closed segments, one at a time, oldest first, on a thread of low priority.

const (
	sealingGrace = 5 * time.Second // Close waits this long for the keeper
	sealingRetry = time.Minute     // after a full disk, or with the file open in a reader
)

// hashedSegment is the last sealed segment.
type hashedSegment struct {
	number int
	sha    [32]byte
}

// startKeeper starts sealing the segments in the catalog.
func (w *Writer) startKeeper() {
	w.quit, w.kept = make(chan struct{}), make(chan struct{})
	go w.keep()
}

// wakeKeeper makes the keeper look for work.
func (w *Writer) wakeKeeper() {
	select {
	case w.work <- struct{}{}:
	default:
	}
}

// stopKeeper waits for the keeper for a while, and stops it. The next recorder seals the rest.
func (w *Writer) stopKeeper() {
	w.awaited.Add(1)
	defer w.awaited.Add(-1)
	w.hasten(func(*stored) bool { return true })
	close(w.quit)
	select {
	case <-w.kept:
		return
	case <-time.After(sealingGrace):
	}
	w.mu.Lock()
	w.hurry = true
	for _, s := range w.catalog.list {
		if s.done != nil {
			s.giveUp()
		}
	}
	w.mu.Unlock()
	<-w.kept
}

// hasten seals segments at once that wait for results of connects.
func (w *Writer) hasten(which func(*stored) bool) {
	w.mu.Lock()
	for _, s := range w.catalog.list {
		if s.done == nil && s.seg != nil && which(s) { // else the keeper has it
			s.notBefore = time.Time{}
		}
	}
	w.mu.Unlock()
	w.wakeKeeper()
}

func (w *Writer) keep() {
	defer close(w.kept)
	quietly(func() {
		w.hashLast()
		w.holdTheRest()
		w.mendManifest()
	})
	for {
		if !w.makeRoomToSeal() {
			<-w.quit
			return // the next recorder seals the rest
		}
		if s := w.nextUnsealed(); s != nil {
			if w.awaited.Load() > 0 {
				w.sealOne(s)
			} else {
				quietly(func() { w.sealOne(s) })
			}
			continue
		}
		select {
		case <-w.work:
		case <-w.quit:
			if w.nextUnsealed() == nil {
				return
			}
		}
	}
}

// hashLast computes the hash of the segment before the first unsealed one, or before the active one, if an earlier
// recorder sealed it: the next segment stores it.
func (w *Writer) hashLast() {
	w.mu.Lock()
	var last *stored
	for _, s := range w.catalog.list {
		if s.state == unsealed {
			break
		}
		if s.state == sealed {
			last = s
		}
	}
	if last != nil {
		last.stop, last.done = make(chan struct{}), make(chan struct{})
	}
	w.mu.Unlock()
	if last == nil {
		return
	}
	sum, _, err := segment.HashFile(last.path, last.stop)
	w.mu.Lock()
	defer w.mu.Unlock()
	close(last.done)
	last.done = nil
	if err != nil {
		if !last.givenUp() {
			w.log.Warn("segment not hashed", "path", last.path, "error", err)
		}
		return
	}
	last.sha = sum
	w.hashed = hashedSegment{last.number, sum}
}

// nextUnsealed returns the oldest segment to seal. During removals there may be no room for it.
func (w *Writer) nextUnsealed() *stored {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hurry || w.removing != nil {
		return nil
	}
	for _, s := range w.catalog.list {
		if s.isDue() {
			s.stop, s.done = make(chan struct{}), make(chan struct{})
			return s
		}
	}
	return nil
}

// sealOne seals s and releases it, with or without success.
func (w *Writer) sealOne(s *stored) {
	w.takeTarget(s)
	w.adjustReserve()
	err := w.seal(s)
	if err != nil {
		w.removeCopy(s)
	}
	later := s.givenUp() || errors.Is(err, segment.ErrGivenUp) || isFull(err) || isBusy(err)
	if err != nil && !later {
		w.log.Error("segment not sealed", "path", s.path, "error", err)
		w.tell(SegmentSetAside{Segment: s.number, File: tapedir.SegmentName(s.number), Batches: -1, Cause: err.Error()})
	}
	defer w.adjustReserve()
	w.mu.Lock()
	defer w.mu.Unlock()
	close(s.done)
	s.done = nil
	switch {
	case err == nil:
	case later:
		s.notBefore = time.Now().Add(sealingRetry)
		w.log.Warn("segment not sealed yet", "path", s.path, "error", err)
	default:
		s.state = aside
		s.measure()
	}
}

// giveUp stops the work on s. The caller holds Writer.mu.
func (s *stored) giveUp() {
	if !s.givenUp() {
		close(s.stop)
	}
}

// context returns a context that ends, with ErrGivenUp, when s is given up. Who is done calls end.
func (s *stored) context() (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		select {
		case <-s.stop:
			cancel(segment.ErrGivenUp)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func (s *stored) givenUp() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// quietly works at the lowest priority for CPU and disk, in a thread of its own: to raise the priority again would need a privilege. On a
// busy host that may take a hundred times as long, so nothing that somebody waits for is done quietly.
func quietly(work func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		lowerPriority()
		work()
	}()
	<-done
}

// lowerPriority gives this goroutine a thread with the lowest priority for CPU and disk. A failure is harmless.
func lowerPriority() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	tid := unix.Gettid()
	_ = unix.Setpriority(unix.PRIO_PROCESS, tid, 19)
	const whoProcess, bestEffortLowest = 1, 2<<13 | 7 // linux/ioprio.h
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), bestEffortLowest)
}

// isBusy reports whether err means that another process has locked the file.
func isBusy(err error) bool {
	code := sqlite.ErrCode(err).ToPrimary()
	return code == sqlite.ResultBusy || code == sqlite.ResultLocked
}

// isFull reports whether err means a full disk.
func isFull(err error) bool {
	return sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
