package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What kernel/bpf/ringbuf.c fixes.
const (
	ringHeader  = 8       // bytes before each record
	ringBusy    = 1 << 31 // of the length: it is being written
	ringDiscard = 1 << 30 // it was given up
)

// Mark is a place in a ring: so many records of the ring are before it, as its readers counted.
type Mark struct {
	Position uint64 `json:"position"` // byte, as the kernel counts
	Records  uint64 `json:"records"`
	of       *ring  // nil: not known
}

// A ring reads a BPF ring buffer. ringbuf.Reader frees the place of a record when it has read it; this one can leave it there until
// the record is on the tape, so that the next reader finds it if this process is killed. What was read and not freed takes no more
// than keep bytes: beyond that it is freed all the same, since whoever connects needs the room more.
type ring struct {
	mu       sync.Mutex // guards the mappings against close
	consumer []byte     // the page with the consumer's position
	data     []byte     // the page with the producer's, and the data
	size     uint64
	next     Mark // that is read next
	keep     uint64
	journal  *journal             // of what was freed; nil: nobody else will ask
	safe     atomic.Pointer[Mark] // up to which records may be freed
}

// keptPart is the part of a ring that may hold records that were read. A recorder is woken at a quarter, and floods are fought from
// three quarters on.
const keptPart = 8

var (
	errShortRing     = errors.New("the ring ends in the middle of a record")
	errForeignReader = errors.New("another program has read the ring")
)

// newRing maps a ring. A record is freed when it is read, until keepFor is called. The first record is that at the consumer's
// position. The kernel offers the data twice in a row, so that no record is ever split. That would double the recorder's RSS, since
// all pages of the mapping count at once: we map them once.
func newRing(m *ebpf.Map) (*ring, error) {
	r := &ring{size: uint64(m.MaxEntries())}
	page := os.Getpagesize()
	var err error
	if r.consumer, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map consumer page: %w", err)
	}
	if r.data, err = unix.Mmap(m.FD(), int64(page), page+int(r.size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		_ = unix.Munmap(r.consumer)
		return nil, fmt.Errorf("map data pages: %w", err)
	}
	r.next.Position = atomic.LoadUint64(r.consumed())
	return r, nil
}

// keepFor leaves records in the ring for the next reader, and goes on where the journal says that the last one was. It is an error
// if a reader that kept no journal was there meanwhile.
func (r *ring) keepFor(j *journal) error {
	at := atomic.LoadUint64(r.consumed())
	n, known := j.recordsAt(at)
	if !known {
		return errForeignReader
	}
	r.journal, r.keep, r.next = j, r.size/keptPart, Mark{at, n, r}
	return nil
}

func (r *ring) consumed() *uint64 { return (*uint64)(unsafe.Pointer(&r.consumer[0])) }
func (r *ring) produced() *uint64 { return (*uint64)(unsafe.Pointer(&r.data[0])) }

// read copies the next record into buf, which it returns, grown if need be. It returns os.ErrDeadlineExceeded when there is none,
// and os.ErrClosed after close.
func (r *ring) read(buf []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		return buf, os.ErrClosed
	}
	for {
		end := atomic.LoadUint64(r.produced())
		r.next.Position = max(r.next.Position, atomic.LoadUint64(r.consumed())) // another process may have freed more
		if r.next.Position >= end {
			r.giveBack(end)
			return buf, os.ErrDeadlineExceeded
		}
		at := os.Getpagesize() + int(r.next.Position&(r.size-1))
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at])))
		if header&ringBusy != 0 { // it is a matter of nanoseconds
			continue
		}
		n := uint64(header &^ ringDiscard)
		whole := (n + ringHeader + 7) &^ 7
		if whole > end-r.next.Position {
			return buf, errShortRing
		}
		r.next.Position += whole
		if header&ringDiscard != 0 {
			continue
		}
		r.next.Records++
		buf = r.record(buf, at+ringHeader, int(n))
		r.giveBack(end)
		return buf, nil
	}
}

// record copies n bytes from a place of data on into buf. A record that reaches the end of the ring goes on at its beginning.
func (r *ring) record(buf []byte, at, n int) []byte {
	first := min(n, len(r.data)-at)
	buf = append(buf[:0], r.data[at:at+first]...)
	return append(buf, r.data[os.Getpagesize():][:n-first]...)
}

// giveBack frees what may be, and what has to be.
func (r *ring) giveBack(end uint64) {
	if r.next.Position-atomic.LoadUint64(r.consumed()) > r.keep || end-atomic.LoadUint64(r.consumed()) > 2*r.keep {
		r.free(r.next)
	} else if safe := r.safe.Load(); safe != nil {
		r.free(*safe)
	}
}

func (r *ring) free(to Mark) {
	if to.Position <= atomic.LoadUint64(r.consumed()) {
		return
	}
	if r.journal != nil {
		r.journal.note(atomic.LoadUint64(r.consumed()), to)
	}
	atomic.StoreUint64(r.consumed(), to.Position)
}

// unread returns the bytes that the ring holds and nobody has read.
func (r *ring) unread() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		return 0
	}
	return int(atomic.LoadUint64(r.produced()) - r.next.Position)
}

// mark returns how far the ring was read.
func (r *ring) mark() Mark { return Mark{r.next.Position, r.next.Records, r} }

// readFrom goes on with what is behind a mark, if that is not freed yet. It returns how many records are gone that were behind it.
func (r *ring) readFrom(m Mark) (gone uint64) {
	if m.Position >= r.next.Position {
		r.next.Position, r.next.Records = m.Position, m.Records
		return 0
	}
	return r.next.Records - min(m.Records, r.next.Records)
}

func (r *ring) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(r.data), unix.Munmap(r.consumer))
	r.data, r.consumer = nil, nil
	return err
}

// A journal says how many records were before the consumer's position of a ring. It lies in memory that outlives this process. One
// of its two marks is that of the present position, whenever the process ends: the other one is written before the ring is freed.
type journal [2]struct{ Position, Records uint64 }

func (j *journal) recordsAt(position uint64) (n uint64, known bool) {
	for i := range j {
		if atomic.LoadUint64(&j[i].Position) == position {
			return atomic.LoadUint64(&j[i].Records), true
		}
	}
	return 0, false // another process has freed it
}

// note writes the mark of the next position over the mark that is not of the present one.
func (j *journal) note(present uint64, to Mark) {
	other := &j[0]
	if atomic.LoadUint64(&other.Position) == present {
		other = &j[1]
	}
	atomic.StoreUint64(&other.Records, to.Records)
	atomic.StoreUint64(&other.Position, to.Position)
}
