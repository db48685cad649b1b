package sqlitefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
)

// A WAL is a header and frames; a frame is a page with a header. The checksum in a frame covers the WAL's header and all
// frames up to this one, so SQLite stops at the first wrong checksum. But each frame can be checked separately, starting
// from the checksum stored in the frame before it.
// Format: https://sqlite.org/fileformat2.html#walformat

// Lengths of the headers of a WAL and of a frame, in bytes.
const (
	WALHeaderSize   = 32
	FrameHeaderSize = 24
)

// ErrNoWAL means that a file has no frames of a WAL.
var ErrNoWAL = errors.New("no frames of a WAL")

// mostForeign is the number of consecutive frames of another generation, left by an earlier use of the file, after which
// the search for our frames ends.
const mostForeign = 1024

// WAL reads a write-ahead log and trusts no byte.
type WAL struct {
	r      io.ReaderAt
	page   int // bytes
	order  binary.ByteOrder
	salts  [8]byte
	start  walSum // of the header
	intact bool   // the header's checksum is right
}

// Frame is one version of a page in a WAL.
type Frame struct {
	Page    uint32 // its number, from 1 on
	Commit  uint32 // database size in pages after the commit that ends here; 0: no commit ends here
	At      int64  // offset of the page in the WAL, bytes
	Whole   bool   // its own checksum is right
	Reached bool   // this and all frames before are whole: SQLite reads it
}

// End returns where the next frame begins, in bytes.
func (w *WAL) End(f Frame) int64 { return f.At + int64(w.page) }

// PageSize returns the length of a page, in bytes.
func (w *WAL) PageSize() int { return w.page }

// OpenWAL reads the header of a WAL. It reconstructs a damaged header from the first frames, with pages of pageSize
// bytes. Errors are ErrNoWAL or of r.
func OpenWAL(r io.ReaderAt, pageSize int) (*WAL, error) {
	var header [WALHeaderSize + FrameHeaderSize]byte
	n, err := r.ReadAt(header[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read WAL: %w", err)
	}
	if n < len(header) {
		return nil, ErrNoWAL
	}
	w := &WAL{r: r, page: int(binary.BigEndian.Uint32(header[8:])), order: binary.LittleEndian, salts: [8]byte(header[16:24])}
	w.start = walSum{binary.BigEndian.Uint32(header[24:]), binary.BigEndian.Uint32(header[28:])}
	magic := binary.BigEndian.Uint32(header[:])
	if magic == 0x377f0683 {
		w.order = binary.BigEndian
	}
	if magic|1 == 0x377f0683 && w.page >= 512 && w.page <= 65536 && w.page&(w.page-1) == 0 {
		sum := walSum{}
		sum.add(w.order, header[:24])
		w.intact = sum == w.start
	}
	if !w.intact {
		return w, w.guess(pageSize, [8]byte(header[WALHeaderSize+8:]))
	}
	return w, nil
}

// guess reconstructs a damaged header: one that makes one of the first frames whole.
func (w *WAL) guess(pageSize int, salts [8]byte) error {
	w.page, w.salts = pageSize, salts
	for _, w.order = range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for f := range w.Frames() {
			if f.Whole {
				return nil
			}
			if f.At > 8*int64(w.page) {
				break
			}
		}
	}
	return ErrNoWAL
}

// Frames returns the frames of the WAL in order, damaged ones included: frames after a damaged one may be of the same
// generation, as their salts show. A page that cannot be read is not whole.
func (w *WAL) Frames() iter.Seq[Frame] {
	return func(yield func(Frame) bool) {
		frame := make([]byte, FrameHeaderSize+w.page)
		stored, made := w.start, w.start // checksum stored in the previous frame, and the right one
		reached, ours, foreign := w.intact, true, 0
		for at := int64(WALHeaderSize); foreign < mostForeign; at += int64(len(frame)) {
			n, err := w.r.ReadAt(frame, at)
			if n < len(frame) && (err == nil || errors.Is(err, io.EOF)) {
				return
			}
			is := walSum{binary.BigEndian.Uint32(frame[16:]), binary.BigEndian.Uint32(frame[20:])}
			made = w.sum(made, frame)
			whole := err == nil && binary.BigEndian.Uint32(frame) > 0 && (made == is || w.sum(stored, frame) == is)
			salted := [8]byte(frame[8:16]) == w.salts
			// The checksum does not cover the salts: a frame that continues one of ours is ours.
			ours = salted || ours && whole
			reached = reached && whole && salted
			stored = is
			if !ours {
				foreign++
				continue
			}
			foreign = 0
			f := Frame{Page: binary.BigEndian.Uint32(frame), Commit: binary.BigEndian.Uint32(frame[4:]), At: at + FrameHeaderSize, Whole: whole, Reached: reached}
			if !yield(f) {
				return
			}
		}
	}
}

// sum returns the checksum of a frame after one with checksum before.
func (w *WAL) sum(before walSum, frame []byte) walSum {
	before.add(w.order, frame[:8])
	before.add(w.order, frame[FrameHeaderSize:])
	return before
}

// walSum is the running checksum of a WAL.
type walSum struct{ a, b uint32 }

func (s *walSum) add(order binary.ByteOrder, data []byte) {
	for ; len(data) >= 8; data = data[8:] {
		s.a += order.Uint32(data) + s.b
		s.b += order.Uint32(data[4:]) + s.a
	}
}
