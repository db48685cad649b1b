package bpf

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"

	"github.com/cilium/ebpf"
)

// near are records of rings, each by what is behind the time with which it begins: their times in order.
type near []map[string][]uint64

// nearEnough is the most by which clock readings of two programs for one event differ, ns.
const nearEnough = 1e9

// nearby reads a ring of each successor.
func nearby(later []successor, ring string) (n near, err error) {
	for _, s := range later {
		of := map[string][]uint64{}
		err := walkRing(s.collection.Maps[ring], func(b []byte) error {
			key := string(b[8:])
			of[key] = append(of[key], timeOf(b))
			return nil
		})
		if err != nil {
			return nil, err
		}
		n = append(n, of)
	}
	return n, nil
}

// take takes away the records that are like b. False: there is none.
func (n near) take(b []byte) (found bool) {
	key, at := string(b[8:]), timeOf(b)
	for _, of := range n {
		for i, t := range of[key] {
			if max(t, at)-min(t, at) < nearEnough {
				of[key] = slices.Delete(of[key], i, i+1)
				found = true
				break
			}
		}
	}
	return found
}

// keepAll has a ring free nothing.
const keepAll = 1 << 62

// walkRing calls fn with what a ring holds, and leaves it there.
func walkRing(m *ebpf.Map, fn func(record []byte) error) error {
	_, err := walkTo(m, 0, fn)
	return err
}

// walkTo likewise from a place on, and returns where it ended.
func walkTo(m *ebpf.Map, from uint64, fn func(record []byte) error) (end uint64, err error) {
	r, err := newRing(m)
	if err != nil {
		return 0, err
	}
	r.keep, r.next.Position = keepAll, max(r.next.Position, from)
	var record []byte
	for err == nil {
		if record, err = r.read(record); err == nil {
			err = fn(record)
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return r.next.Position, errors.Join(err, r.close())
}

// walk calls fn with what is left in a ring.
func (l *left) walk(kind int, fn func(record []byte) error) (err error) {
	l.ends[kind], err = walkTo(l.from.collection.Maps[ringNames()[kind]], (*l.from.rings()[kind]).next.Position, fn)
	return err
}

// skip reads to the end, and returns how many records that was.
func (r *ring) skip() (n uint64, err error) {
	var record []byte
	for ; err == nil; n++ {
		record, err = r.read(record)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n - 1, err
}

// timeOf returns the time with which each record begins, ns CLOCK_BOOTTIME.
func timeOf(record []byte) uint64 { return binary.NativeEndian.Uint64(record) }
