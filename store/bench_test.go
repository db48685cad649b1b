package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/segment"
)

// Load of the budget in the design: connections by 500 processes to 5,000
// endpoints, sockets numbered as the kernel numbers them.

type load struct {
	tasks     []*Task
	endpoints []*Endpoint
	shapes    []*Shape
	boot      uint64
	n         uint64
}

func newLoad(processes, endpoints int) *load {
	l := &load{boot: 1000 * second}
	x := newWorld()
	for i := range processes {
		p := *x.curl
		p.mark = mark{}
		p.Key = ProcessKey{Tgid: uint32(1000 + i), StartBoot: uint64(i) * 1_000_003, Exec: 4}
		p.Argv = []string{"curl", "-fsS", "--max-time", "10", fmt.Sprintf("https://service-%d.example.net/health", i)}
		t := *x.task
		t.mark, t.Process, t.Tid = mark{}, &p, uint32(1000+i)
		l.tasks = append(l.tasks, &t)
	}
	for i := range endpoints {
		e := endpoint(2, fmt.Sprintf("10.%d.%d.%d", i/65536, i/256%256, i%256), 443)
		e.Raw = []byte{2, 0, 1, 187, 10, byte(i / 65536), byte(i / 256), byte(i), 0, 0, 0, 0, 0, 0, 0, 0}
		l.endpoints = append(l.endpoints, e)
	}
	for _, errno := range []int32{0, 115, 111, 110} {
		s := *x.tcpRefused
		s.Errno = errno
		l.shapes = append(l.shapes, &s)
	}
	return l
}

// fill makes the next batch: 1,013 ns apart.
func (l *load) fill(batch []Connection) {
	for i := range batch {
		l.n++
		l.boot += 1013
		h := l.n * 0x9e3779b97f4a7c15 >> 32
		batch[i] = Connection{BootTime: l.boot, Task: l.tasks[h%uint64(len(l.tasks))], Remote: l.endpoints[h*7%uint64(len(l.endpoints))],
			Shape: l.shapes[h>>7%uint64(len(l.shapes))], FD: int32(3 + h%60), Cookie: 100_000 + l.n}
	}
}

func (l *load) batch(conns []Connection) Batch {
	return Batch{Connections: conns, Now: l.boot, Counters: segment.Counters{"seen": l.n, "stored": l.n}}
}

// cpuTime is what this process has used, in user and system mode: on a shared
// machine it is the figure that can be compared.
func cpuTime(b testing.TB) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func diskBytes(b *testing.B, dir string) (total int64) {
	b.Helper()
	for _, name := range files(b, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

// benchAppend measures rows a second into the tables, commits, checkpoints and
// interning included, and bytes a row on the disk.
func benchAppend(b *testing.B, batchRows, rowsPerStatement int, l *load) {
	dir := b.TempDir()
	w := mustOpenWriter(b, dir, options(999*second))
	w.seg.rows.size = rowsPerStatement
	conns := make([]Connection, batchRows)
	written := 0
	var busy time.Duration
	b.ResetTimer()
	for written < b.N {
		b.StopTimer()
		l.fill(conns)
		b.StartTimer()
		before := cpuTime(b)
		if err := w.Append(l.batch(conns)); err != nil {
			b.Fatal(err)
		}
		busy += cpuTime(b) - before
		written += batchRows
	}
	b.StopTimer()
	b.ReportMetric(float64(written)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(written)/busy.Seconds(), "rows/cpu-s")
	mustClose(b, w, l.boot)
	b.ReportMetric(float64(diskBytes(b, dir))/float64(written), "B/row")
}

func BenchmarkAppend(b *testing.B) {
	for _, batch := range []int{100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { benchAppend(b, batch, 0, newLoad(500, 5000)) })
	}
}

// What the choice of rowsPerStatement rests on.
func BenchmarkRowsPerStatement(b *testing.B) {
	for _, n := range []int{1, 10, 25, 50, 100, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchAppend(b, 100_000, n, newLoad(500, 5000)) })
	}
}

// BenchmarkBare is the floor: the same rows into the same table in the same
// transactions, with the ids at hand and nothing around them.
func BenchmarkBare(b *testing.B) {
	w := mustOpenWriter(b, b.TempDir(), options(999*second))
	l := newLoad(500, 5000)
	conns := make([]Connection, 10_000)
	if err := w.seg.rows.prepare(); err != nil {
		b.Fatal(err)
	}
	var busy time.Duration
	written := 0
	b.ResetTimer()
	for written < b.N {
		b.StopTimer()
		l.fill(conns)
		b.StartTimer()
		before := cpuTime(b)
		err := w.seg.inTransaction(func() error {
			for i := range conns {
				slot := i % rowsPerStatement
				bindRow(w.seg.rows.many, slot, epoch2026+int64(conns[i].BootTime), &conns[i], refs{task: int64(conns[i].FD), remote: int64(conns[i].Cookie % 5000), shape: 1}, nil)
				if slot == rowsPerStatement-1 {
					if err := segment.Run(w.seg.rows.many); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err == nil {
			err = w.seg.checkpoint()
		}
		if err != nil {
			b.Fatal(err)
		}
		busy += cpuTime(b) - before
		written += len(conns)
	}
	b.ReportMetric(float64(written)/busy.Seconds(), "rows/cpu-s")
}

// The worst case for interning: every connection goes somewhere new.
func BenchmarkAppendScan(b *testing.B) {
	benchAppend(b, 10_000, 0, newLoad(500, 2_000_000))
}

// BenchmarkSnapshot measures a reader's start on an active segment of a million
// connections, and two questions.
func BenchmarkOpenTape(b *testing.B) {
	dir := b.TempDir()
	l := newLoad(500, 5000)
	w := mustOpenWriter(b, dir, options(999*second))
	conns := make([]Connection, 100_000)
	for range 10 {
		l.fill(conns)
		if err := w.Append(l.batch(conns)); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			tape, err := OpenTape(dir)
			if err != nil {
				b.Fatal(err)
			}
			tape.Close()
		}
	})
	tape := mustOpenTape(b, dir)
	for name, query := range map[string]string{
		"newest50": "SELECT * FROM connections WHERE time_ns > 1767226600000000000 ORDER BY time_ns DESC LIMIT 50",
		"address":  "SELECT * FROM connections WHERE remote_address = '10.0.3.7'",
		"exe":      "SELECT count(*) FROM connections WHERE exe = '/usr/bin/curl'",
		"cmdline":  "SELECT time, pid FROM connections WHERE cmdline LIKE '%service-77.%'",
		"max":      "SELECT max(time_ns) FROM connections",
		"count":    "SELECT count(*) FROM connections",
		"group":    "SELECT exe, count(*) FROM connections GROUP BY 1",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				rows(b, tape.Conn(), query)
			}
		})
	}
	mustClose(b, w, l.boot)
}
