package hash

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// chunk is how much is read at a time, in bytes.
const chunk = 256 << 10

// readTries is how often a file is read that changes meanwhile: one that a process deletes while it runs changes too.
const readTries = 3

// read computes the digests of an open file, and closes it.
func (h *Hasher) read(f openFile, progress *atomic.Int64) Result {
	defer f.close()
	yield()
	r := Result{Job: f.job, Source: f.source, Found: f.found}
	for range readTries {
		digests, err := h.digest(f.file, progress)
		if err != nil {
			r.Source = Unreadable
			return r
		}
		after, _, err := identify(int(f.file.Fd()))
		switch {
		case err != nil:
			r.Source = Unreadable
			return r
		case after == r.Found:
			r.Digests = digests
			return r
		case !f.fixed:
			r.Source = Changed
			return r
		}
		r.Found, r.Source = after, Later
	}
	r.Source = Changed
	return r
}

var errTooLarge = errors.New("file too large")

// digest reads a file from its beginning, no faster than Options.BytesPerSecond.
func (h *Hasher) digest(file io.ReaderAt, progress *atomic.Int64) (d Digests, err error) {
	s256, s1, m5 := sha256.New(), sha1.New(), md5.New()
	buf := make([]byte, chunk)
	for at := int64(0); ; {
		begun := time.Now()
		n, err := file.ReadAt(buf, at)
		s256.Write(buf[:n])
		s1.Write(buf[:n])
		m5.Write(buf[:n])
		at += int64(n)
		progress.Add(1)
		h.count(n)
		switch {
		case errors.Is(err, io.EOF):
			s256.Sum(d.SHA256[:0])
			s1.Sum(d.SHA1[:0])
			m5.Sum(d.MD5[:0])
			h.mu.Lock()
			h.counts.Reads++
			h.mu.Unlock()
			return d, nil
		case err != nil:
			return d, err
		case at > h.o.MaxSize:
			return d, errTooLarge
		}
		wait := time.Duration(int64(n)*int64(time.Second)/h.o.BytesPerSecond) - time.Since(begun)
		select {
		case <-h.quit:
			return d, errors.New("told to end")
		case <-time.After(max(0, wait)):
		}
	}
}

func (h *Hasher) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.Bytes += uint64(n)
}

// yield gives this goroutine a thread with the lowest priority for the CPU, and the disk only when nobody else wants it. The
// thread ends with the goroutine. A failure is harmless.
func yield() {
	runtime.LockOSThread()
	tid := unix.Gettid()
	_ = unix.Setpriority(unix.PRIO_PROCESS, tid, 19)
	const whoProcess, idle = 1, 3 << 13 // linux/ioprio.h
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), idle)
}
