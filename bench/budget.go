package main

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/retain"
)

// A budgetRun is one load on a tape of one size.
type budgetRun struct {
	Limit       int64 // bytes
	Rate        int   // connections a second, in one batch
	Connections int
	Took        time.Duration
	Most        int64 // largest total size of all files
	Looks       int
	History     int64 // size of the segments at the end
	Pages       int64 // that they hold of it in pages: a slot may be longer
	Segments    int
}

// Sizes and rates. Each run goes on until a third of the tape's size was removed.
var (
	budgetSizes = []int64{16 << 20, 32 << 20, 256 << 20, 2 << 30}
	budgetRates = []int{1_000, 50_000, 400_000}
)

// budgetCells returns the sizes, in bytes, and rates to measure: all of them, or those of one cell, as "2048,400000".
func budgetCells(cell string) (sizes []int64, rates []int, err error) {
	if cell == "" {
		return budgetSizes, budgetRates, nil
	}
	var mib int64
	var rate int
	if n, err := fmt.Sscanf(cell, "%d,%d", &mib, &rate); n != 2 || mib <= 0 || rate <= 0 {
		return nil, nil, fmt.Errorf("cell %q is not SIZE,RATE: %w", cell, cmp.Or(err, errors.New("a positive number is wanted")))
	}
	return []int64{mib << 20}, []int{rate}, nil
}

// budgetLook is the interval of measuring the files.
const budgetLook = 10 * time.Millisecond

// budget measures every size at every rate.
func (b *bench) budget() error {
	for _, size := range b.sizes {
		for _, rate := range b.rates {
			run, err := measureBudget(filepath.Join(b.dir, "budget"), size, rate)
			if err != nil {
				return err
			}
			progress("%d MiB, %d a batch: at most %.1f%%, history %.1f%%, pages %.1f%%, %d segments, %.1f s", size>>20, rate, 100*float64(run.Most)/float64(size), 100*float64(run.History)/float64(size), 100*float64(run.Pages)/float64(size), run.Segments, run.Took.Seconds())
			b.report.Budget = append(b.report.Budget, run)
		}
	}
	return nil
}

func measureBudget(dir string, size int64, rate int) (run budgetRun, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	run = budgetRun{Limit: size, Rate: rate}
	mib := int(size >> 20)
	load := newBudgetLoad(min(500, 2*mib), min(5000, 20*mib))
	var removed atomic.Int64 // bytes
	real := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "bench", Backend: "fexit", BootID: "bench", Now: store.Anchor{Boot: load.boot, Real: real},
		Limits: retain.Limits{MaxBytes: size, Reserve: true}, Events: func(e store.Event) {
			if gone, ok := e.(store.SegmentExpired); ok {
				removed.Add(gone.Bytes)
			}
		}})
	if err != nil {
		return run, err
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if most, ok := takenAtOnce(dir); ok {
				run.Most, run.Looks = max(run.Most, most), run.Looks+1
			}
			select {
			case <-end:
				return
			case <-time.After(budgetLook):
			}
		}
	}()
	begin := time.Now()
	for removed.Load() < size/3 && err == nil {
		rows := load.batch(rate)
		err = w.Append(store.Batch{Connections: rows, Now: load.boot})
		run.Connections += rate
	}
	run.Took = time.Since(begin)
	err = errors.Join(err, w.Close(store.Gap{From: load.boot}, nil))
	close(end)
	<-ended
	_, run.History, run.Segments = allocatedIn(dir)
	run.Pages = pagesIn(dir)
	return run, err
}

// pagesIn is what the pages of the segments of a tape take, bytes.
func pagesIn(dir string) (bytes int64) {
	names, _ := filepath.Glob(filepath.Join(dir, "*.db"))
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		head := make([]byte, 32)
		if _, err := f.ReadAt(head, 0); err == nil { // https://sqlite.org/fileformat2.html: size of a page, and their number
			bytes += int64(binary.BigEndian.Uint16(head[16:])) * int64(binary.BigEndian.Uint32(head[28:]))
		}
		f.Close()
	}
	return bytes
}

// takenAtOnce returns the disk space of a tape's files at one moment. Files are measured one after another: what the recorder
// gives from one to another meanwhile is in the sum twice, or not at all. So the sum counts if the next look finds each
// file as it was. It returns false if the files do not stand still for that long.
func takenAtOnce(dir string) (all int64, ok bool) {
	_, _, _, before := filesIn(dir)
	for range 20 {
		is, _, _, after := filesIn(dir)
		if maps.Equal(before, after) {
			return is, true
		}
		before = after
	}
	return 0, false
}

// allocatedIn returns the disk space of a tape's files without the reserve, the part of its segments, and the number of files.
func allocatedIn(dir string) (all, segments int64, files int) {
	all, segments, files, _ = filesIn(dir)
	return all, segments, files
}

// filesIn is allocatedIn, and returns the size of each file by its number.
func filesIn(dir string) (all, segments int64, files int, seen map[uint64]int64) {
	seen = map[uint64]int64{} // a file may have two names for a moment
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		n := info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			if _, known := seen[st.Ino]; known {
				return nil
			}
			n = max(n, st.Blocks*512)
			seen[st.Ino] = n
		}
		all += n
		if strings.HasSuffix(path, ".db") {
			segments += n
			files++
		}
		return nil
	})
	return all, segments, files, seen
}

// budgetLoad makes endless connections.
type budgetLoad struct {
	tasks     []*store.Task
	endpoints []*store.Endpoint
	shape     store.Shape
	boot, n   uint64
	rows      []store.Connection
}

func newBudgetLoad(processes, endpoints int) *budgetLoad {
	l := &budgetLoad{boot: uint64(time.Hour), shape: store.Shape{SocketFamily: 2, Type: 1, Protocol: 6, Via: "connect", AddressSource: "kernel", Backend: "fexit", Addrlen: 16}}
	for i := range processes {
		p := &store.Process{Key: store.ProcessKey{Tgid: uint32(1000 + i), StartBoot: uint64(i), Exec: 1}, Comm: "client", Exe: "/usr/bin/client",
			Argv: []string{"client", "--peer", fmt.Sprintf("service-%d.example.net", i)}, Source: store.SourceExec}
		l.tasks = append(l.tasks, &store.Task{Process: p, Tid: p.Key.Tgid, Comm: "client"})
	}
	for i := range endpoints {
		raw := []byte{2, 0, 1, 187, 10, 0, byte(i >> 8), byte(i), 0, 0, 0, 0, 0, 0, 0, 0}
		l.endpoints = append(l.endpoints, &store.Endpoint{Family: 2, Address: fmt.Sprintf("10.0.%d.%d", i>>8, i&255), Port: 443, Raw: raw})
	}
	return l
}

func (l *budgetLoad) batch(n int) []store.Connection {
	l.rows = l.rows[:0]
	for range n {
		l.n++
		l.boot += 2500
		h := l.n * 0x9e3779b97f4a7c15 >> 32
		l.rows = append(l.rows, store.Connection{BootTime: l.boot, Task: l.tasks[h%uint64(len(l.tasks))], Remote: l.endpoints[h*7%uint64(len(l.endpoints))],
			Shape: &l.shape, FD: int32(3 + h%60), Cookie: l.n})
	}
	return l.rows
}

func (r *report) budget(p *printer) {
	if len(r.Budget) == 0 {
		return
	}
	p.line("## What a tape takes of its size")
	p.line("")
	p.line("Connections of two processes to twenty addresses for each MiB, at most 500 to 5,000, until a third of the tape was removed,")
	p.line("in batches as large as a recorder has after a second at that rate, one after the other as fast as they are written. All files")
	p.line("count with their blocks, looked at every %v; history is what the segments take when the recorder has ended, and pages", budgetLook)
	p.line("what SQLite says that they hold of it.")
	p.line("")
	p.head("--max-size", "connections a second", "written in", "most taken", "history", "its pages", "segments", "kept")
	for _, b := range r.Budget {
		most, history := float64(b.Most)/float64(b.Limit), float64(b.History)/float64(b.Limit)
		ok := kept(most, 1)
		if history < 0.8 && b.Limit >= 32<<20 {
			ok = "**no: less than 80%**"
		}
		p.row(fmt.Sprintf("%d MiB", b.Limit>>20), thousands(float64(b.Rate)), fmt.Sprintf("%.1f s", b.Took.Seconds()),
			fmt.Sprintf("%.1f%%", 100*most), fmt.Sprintf("%.1f%%", 100*history),
			fmt.Sprintf("%.1f%%", 100*float64(b.Pages)/float64(b.Limit)), fmt.Sprint(b.Segments), ok)
	}
	p.line("")
}
