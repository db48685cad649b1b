package posting

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

// Sorter sorts rows that come in the order of id into the order of a [Builder]. It keeps a limited number in memory, and
// writes the rest to a file as sorted, packed runs.
type Sorter struct {
	most int
	make func() (File, error)
	rows []Row
	keys []uint64
	file File // nil: all are in memory
	runs []run
	end  int64 // of the file
}

// File is a sorter's temporary file. Close removes it.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// NewSorter returns a sorter that keeps up to most rows in memory, 48 bytes each, and calls file when there are more.
func NewSorter(most int, file func() (File, error)) *Sorter {
	return &Sorter{most: most, make: file}
}

// Add adds the next row.
func (s *Sorter) Add(r Row) error {
	if len(s.rows) == s.most {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.rows = append(s.rows, r)
	return nil
}

// spill writes the rows in memory to the file.
func (s *Sorter) spill() error {
	if s.file == nil {
		file, err := s.make()
		if err != nil {
			return fmt.Errorf("make room to sort: %w", err)
		}
		s.file = file
	}
	from := s.end
	w := bufio.NewWriterSize(s.file, 1<<16)
	var head []byte
	b := NewBuilder(func(p *Part) error {
		head = binary.AppendVarint(head[:0], p.Remote)
		head = binary.AppendUvarint(head, uint64(len(p.List)))
		s.end += int64(len(head) + len(p.List))
		if _, err := w.Write(head); err != nil {
			return err
		}
		_, err := w.Write(p.List)
		return err
	})
	if err := s.sorted(b.Add); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write rows to sort: %w", err)
	}
	s.runs = append(s.runs, run{number: len(s.runs), at: from, size: s.end - from})
	s.rows = s.rows[:0]
	return nil
}

// sorted calls fn for every row in memory, in order.
func (s *Sorter) sorted(fn func(Row) error) error {
	if keys := s.shortKeys(); keys != nil {
		slices.Sort(keys)
		mask := uint64(1)<<bits.Len(uint(len(keys))) - 1
		for _, key := range keys {
			if err := fn(s.rows[key&mask]); err != nil {
				return err
			}
		}
		return nil
	}
	slices.SortFunc(s.rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Remote, b.Remote), cmp.Compare(a.Task, b.Task), cmp.Compare(a.Shape, b.Shape), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range s.rows {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// shortKeys packs each row's endpoint, task, shape and index into one number: sorting these is several times as fast as
// sorting rows. It returns nil if 64 bits are not enough. The rows came in the order of id.
func (s *Sorter) shortKeys() []uint64 {
	var remotes, tasks, shapes uint64 // every bit set in any row
	for i := range s.rows {
		r := &s.rows[i]
		remotes, tasks, shapes = remotes|uint64(r.Remote), tasks|uint64(r.Task), shapes|uint64(r.Shape)
	}
	number := bits.Len(uint(len(s.rows)))
	shape := number
	task := shape + bits.Len64(shapes)
	remote := task + bits.Len64(tasks)
	if remote+bits.Len64(remotes) > 64 {
		return nil
	}
	s.keys = s.keys[:0]
	for i := range s.rows {
		r := &s.rows[i]
		s.keys = append(s.keys, uint64(r.Remote)<<remote|uint64(r.Task)<<task|uint64(r.Shape)<<shape|uint64(i))
	}
	return s.keys
}

// Each calls fn for every row, in order. Call it once, after the last Add.
func (s *Sorter) Each(fn func(Row) error) error {
	if s.file == nil {
		return s.sorted(fn)
	}
	if err := s.spill(); err != nil {
		return err
	}
	s.rows, s.keys = nil, nil
	return s.merge(fn)
}

// Close removes the file.
func (s *Sorter) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// run is a run of sorted rows in the file.
type run struct {
	number   int
	at, size int64

	in     *bufio.Reader
	remote int64
	list   []byte
	groups Reader
}

// mergeBytes limits the memory of all runs while they are merged; leastRead is the least that a run reads at a time.
const (
	mergeBytes = 4 << 20
	leastRead  = 4 << 10
)

// merge merges the runs. Rows that differ only in id come out in the order of runs, which is the order of id.
func (s *Sorter) merge(fn func(Row) error) error {
	heap := make([]*run, 0, len(s.runs))
	for i := range s.runs {
		r := &s.runs[i]
		r.in = bufio.NewReaderSize(io.NewSectionReader(s.file, r.at, r.size), max(leastRead, mergeBytes/len(s.runs)))
		more, err := r.next()
		if err != nil {
			return err
		}
		if more {
			heap = append(heap, r)
		}
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	for len(heap) > 0 {
		r := heap[0]
		for id, connects, ok := r.groups.Row(); ok; id, connects, ok = r.groups.Row() {
			if err := fn(Row{r.remote, r.groups.Task, r.groups.Shape, id, connects}); err != nil {
				return err
			}
		}
		more, err := r.next()
		if err != nil {
			return err
		}
		if !more {
			heap[0] = heap[len(heap)-1]
			heap = heap[:len(heap)-1]
		}
		sink(heap, 0)
	}
	return nil
}

// next reads the next group of the run.
func (r *run) next() (more bool, err error) {
	for !r.groups.Next() {
		if err := r.groups.Err(); err != nil {
			return false, err
		}
		remote, err := binary.ReadVarint(r.in)
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read sorted rows: %w", err)
		}
		size, err := binary.ReadUvarint(r.in)
		if err == nil && size > MostBytes {
			err = ErrCorrupt
		}
		if err == nil {
			r.list = slices.Grow(r.list[:0], int(size))[:size]
			_, err = io.ReadFull(r.in, r.list)
		}
		if err != nil {
			return false, fmt.Errorf("read sorted rows: %w", err)
		}
		r.remote, r.groups = remote, NewReader(r.list)
	}
	return true, nil
}

// before reports whether r's group comes before s's.
func (r *run) before(s *run) bool {
	switch {
	case r.remote != s.remote:
		return r.remote < s.remote
	case r.groups.Task != s.groups.Task:
		return r.groups.Task < s.groups.Task
	case r.groups.Shape != s.groups.Shape:
		return r.groups.Shape < s.groups.Shape
	}
	return r.number < s.number
}

// sink moves the run at i down to its place in the heap.
func sink(heap []*run, i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(heap); child++ {
			if heap[child].before(heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}
