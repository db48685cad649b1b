package sqlitefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
)

// A WAL is a header and frames, each a page with a header of its own. A frame holds the checksum of the WAL's header and of
// all frames up to itself. So SQLite reads up to the first frame whose checksum is wrong; but with the checksum that the
// frame before holds, each frame can be judged by itself.
// Format: https://sqlite.org/fileformat2.html#walformat

// Lengths of the header of a WAL and of that of a frame, in bytes.
const (
	WALHeaderSize   = 32
	FrameHeaderSize = 24
)

// ErrNoWAL says that a file has no frame of a WAL, or is none.
var ErrNoWAL = errors.New("no frames of a WAL")

// mostForeign is how many frames in a row may be of another generation, as those are that an earlier use of the file left,
// until nothing of this one is looked for behind them.
const mostForeign = 1024

// WAL reads a write-ahead log, and believes no byte of it.
type WAL struct {
	r      io.ReaderAt
	page   int // bytes
	order  binary.ByteOrder
	salts  [8]byte
	start  walSum // of the header
	intact bool   // the header is as it was written
}

// Frame is one version of a page in a WAL.
type Frame struct {
	Page    uint32 // its number, from 1 on
	Commit  uint32 // pages that the database has after the commit that ends here; 0: none ends here
	At      int64  // offset of the page in the WAL, bytes
	Whole   bool   // it is as it was written
	Reached bool   // and so is all before it: SQLite reads it
}

// End returns where the next frame begins, in bytes.
func (w *WAL) End(f Frame) int64 { return f.At + int64(w.page) }

// PageSize returns the length of a page, in bytes.
func (w *WAL) PageSize() int { return w.page }

// OpenWAL reads the header of a WAL. If that is damaged, it is made up from the first frames, with pages of pageSize bytes.
// Errors are ErrNoWAL or of r.
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

// guess makes up what a damaged header said: that the first frame, or one of the next, is whole with it.
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

// Frames returns the frames of the WAL in their order, those that are damaged too: also behind a damaged one come those
// that were written with it, which their salts tell. A page that cannot be read is not whole.
func (w *WAL) Frames() iter.Seq[Frame] {
	return func(yield func(Frame) bool) {
		frame := make([]byte, FrameHeaderSize+w.page)
		stored, made := w.start, w.start // what the frame before holds, and what it should
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
			// The salts are not in the checksum: a frame that fits to one of ours is ours.
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

// sum returns the checksum that a frame has if the one before has that one.
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
