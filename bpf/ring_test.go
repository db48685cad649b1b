package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// TestRecordsAcrossTheEnd: a record that the kernel begins before the end of the ring and goes on with at its beginning is read
// whole, wherever it is split.
func TestRecordsAcrossTheEnd(t *testing.T) {
	const size = 4096
	page := os.Getpagesize()
	for before := uint64(8); before <= 128; before += 8 { // bytes from the record to the end of the ring
		for _, n := range []int{0, 1, 7, 8, 9, 64, 113, 1000} {
			r := &ring{consumer: make([]byte, page), data: make([]byte, page+size), size: size, keep: keepAll}
			begin := 5*size - before
			*r.consumed(), r.next.Position = begin, begin
			want := make([]byte, n)
			for i := range want {
				want[i] = byte(i*7 + 1)
			}
			written := append(binary.NativeEndian.AppendUint32(nil, uint32(n)), make([]byte, ringHeader-4)...)
			for i, b := range append(written, want...) {
				r.data[page+int((begin+uint64(i))%size)] = b
			}
			*r.produced() = begin + uint64(ringHeader+n+7)&^7

			got, err := r.read(nil)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, %d before the end: read %x, %v; want %x", n, before, got, err, want)
			}
			if got, err = r.read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%d bytes, %d before the end: then %x, %v", n, before, got, err)
			}
		}
	}
}
