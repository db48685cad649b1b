package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/retain"
)

// A storeRun is the cost of keeping a tape within its limits.
type storeRun struct {
	Batches  int
	Median   time.Duration // of all batches, at full ingest
	Worst99  time.Duration
	Turning  time.Duration // median batch that began or removed a segment
	Turned   int           // how many these were
	Moving   time.Duration // median batch followed by a checkpoint of the WAL
	Moved    int           // how many these were
	Most     int64         // largest size of the tape, bytes
	Limit    int64
	Rows     int64         // of the largest segment that was sealed
	Sealed   float64       // bytes a connection, everything included
	Sealing  time.Duration // sealing it, on a thread of low priority
	Removals map[string]removal
}

const (
	storeBatch = 20_000
	storeLimit = 128 << 20
)

// measureStore records several times max-size as fast as it can, and then lets segments of two sizes expire.
func measureStore(dir string, o generate.Options) (run storeRun, err error) {
	tape := filepath.Join(dir, "store")
	defer func() { err = errors.Join(err, os.RemoveAll(tape)) }()
	l := &storeListener{begun: map[int]time.Time{}}
	now := store.Anchor{Boot: o.Begin, Real: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()}
	w, err := store.OpenWriter(tape, store.WriterOptions{Version: "bench", Backend: "fexit", BootID: "bench", Now: now,
		Limits: retain.Limits{MaxBytes: storeLimit}, Events: l.listen})
	if err != nil {
		return run, err
	}
	s := generate.New(o)
	rows := make([]store.Connection, 0, storeBatch)
	var all, turning, moving []time.Duration
	var wal walState
	for {
		if rows = s.Batch(rows[:0], storeBatch); len(rows) == 0 {
			break
		}
		turns := l.turns()
		begin := time.Now()
		if err := w.Append(store.Batch{Connections: rows, Now: rows[len(rows)-1].BootTime}); err != nil {
			return run, err
		}
		took := time.Since(begin)
		if wal.restarted(tape) { // the previous batch was followed by a checkpoint
			moving = append(moving, all[len(all)-1])
		}
		all = append(all, took)
		if l.turns() != turns {
			turning = append(turning, took)
		}
		run.Most = max(run.Most, bytesIn(tape))
	}
	slices.Sort(all)
	slices.Sort(turning)
	slices.Sort(moving)
	if run.Moved = len(moving); run.Moved > 0 {
		run.Moving = moving[run.Moved/2]
	}
	run.Batches, run.Median, run.Worst99 = len(all), all[len(all)/2], all[len(all)*99/100]
	run.Turned, run.Limit = len(turning), storeLimit
	if len(turning) > 0 {
		run.Turning = turning[len(turning)/2]
	}
	if err := w.Rotate(); err != nil {
		return run, err
	}
	time.Sleep(10 * time.Second) // for the keeper
	if err := w.Close(store.Gap{}, nil); err != nil {
		return run, err
	}
	l.mu.Lock()
	run.Rows, run.Sealed, run.Sealing = l.rows, l.perRow, l.sealing
	l.mu.Unlock()
	run.Removals = map[string]removal{}
	for name, bytes := range map[string]int64{"1 MiB": 1 << 20, "1 GiB": 1 << 30} {
		if run.Removals[name], err = measureRemoval(filepath.Join(dir, "expire"), bytes, o); err != nil {
			return run, err
		}
	}
	return run, nil
}

// walState identifies a tape's WAL: its segment, and the checkpoint sequence number of
// https://sqlite.org/fileformat2.html#walformat.
type walState struct {
	name     string
	sequence uint32
}

// restarted reports whether the segment restarted its WAL since the last call.
func (w *walState) restarted(tape string) bool {
	var now walState
	names, _ := filepath.Glob(filepath.Join(tape, "*.db-wal"))
	slices.Sort(names)
	if len(names) > 0 {
		now.name = names[len(names)-1]
		var header [16]byte
		if f, err := os.Open(now.name); err == nil {
			f.ReadAt(header[:], 0)
			f.Close()
		}
		now.sequence = binary.BigEndian.Uint32(header[12:])
	}
	is := now.name == w.name && now.sequence != w.sequence
	*w = now
	return is
}

// storeListener records the times of a tape's events.
type storeListener struct {
	mu      sync.Mutex
	turned  int
	begun   map[int]time.Time // when the next segment began and so closed this one
	rows    int64
	perRow  float64
	sealing time.Duration
}

func (l *storeListener) listen(e store.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := e.(type) {
	case store.SegmentStarted:
		l.turned++
		l.begun[e.Previous] = time.Now()
	case store.SegmentExpired:
		l.turned++
	case store.SegmentSealed:
		if e.Rows > l.rows {
			l.rows, l.perRow, l.sealing = e.Rows, float64(e.Bytes)/float64(e.Rows), time.Since(l.begun[e.Segment])
		}
	}
}

func (l *storeListener) turns() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turned
}

// A removal is the cost of expiring a segment.
type removal struct {
	Batch time.Duration // the batch that caused it
	Gone  time.Duration // from then until the segment was gone
}

// measureRemoval records into a tape with a sealed segment of this size until max-size makes the segment expire.
func measureRemoval(dir string, bytes int64, o generate.Options) (r removal, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	now := store.Anchor{Boot: o.Begin, Real: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()}
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "bench", BootID: "bench", Now: store.Anchor{Boot: 1, Real: now.Real - 1}})
	if err != nil {
		return r, err
	}
	one := store.Connection{BootTime: 2, Task: &store.Task{Process: &store.Process{Comm: "bench"}, Comm: "bench"},
		Remote: &store.Endpoint{Family: 1, Address: "/bench", Port: -1}, Shape: &store.Shape{}, FD: -1} // an empty segment is not closed
	if err := errors.Join(w.Append(store.Batch{Connections: []store.Connection{one}, Now: 2}), w.Rotate(), w.Close(store.Gap{From: 3}, nil)); err != nil {
		return r, err
	}
	if err := grow(filepath.Join(dir, "00000001.db"), bytes); err != nil {
		return r, err
	}
	var mu sync.Mutex
	var decided, gone time.Time
	note := func(to *time.Time) func() {
		return func() {
			mu.Lock()
			defer mu.Unlock()
			if to.IsZero() {
				*to = time.Now()
			}
		}
	}
	expired := note(&decided)
	w, err = store.OpenWriter(dir, store.WriterOptions{Version: "bench", BootID: "bench", Now: now,
		Limits: retain.Limits{MaxBytes: bytes + storeLimit},
		Events: func(e store.Event) {
			if e, ok := e.(store.SegmentExpired); ok && e.Segment == 1 {
				expired()
			}
		},
		Logger: slog.New(removalHandler{note(&gone)}),
	})
	if err != nil {
		return r, err
	}
	s := generate.New(o)
	var rows []store.Connection
	for is := false; !is; {
		if rows = s.Batch(rows[:0], storeBatch); len(rows) == 0 {
			return r, errors.Join(fmt.Errorf("a segment of %d bytes did not expire", bytes), w.Close(store.Gap{}, nil))
		}
		begin := time.Now()
		if err := w.Append(store.Batch{Connections: rows, Now: rows[len(rows)-1].BootTime}); err != nil {
			return r, err
		}
		r.Batch = time.Since(begin)
		mu.Lock()
		is = !decided.IsZero()
		mu.Unlock()
	}
	if err := w.Close(store.Gap{}, nil); err != nil { // waits for it
		return r, err
	}
	r.Gone = gone.Sub(decided)
	return r, nil
}

// grow writes a file up to a size, as the recorder would.
func grow(file string, bytes int64) error {
	if err := os.Chmod(file, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for have := size(file); have < bytes; have += 1 << 20 {
		if _, err := f.Write(make([]byte, min(1<<20, bytes-have))); err != nil {
			return err
		}
	}
	return errors.Join(f.Sync(), f.Chmod(0o440))
}

// removalHandler calls removed when the store logs the removal of a segment.
type removalHandler struct{ removed func() }

func (h removalHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h removalHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h removalHandler) WithGroup(string) slog.Handler            { return h }
func (h removalHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "segment removed" {
		h.removed()
	}
	return nil
}

// bytesIn adds up the blocks of the files in a directory.
func bytesIn(dir string) (sum int64) {
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range names {
		var st unix.Stat_t
		if unix.Lstat(name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			sum += st.Blocks * 512
		}
	}
	return sum
}

// store is the section of the report.
func (r *report) store(p *printer) {
	s := r.Store
	if s.Batches == 0 {
		return
	}
	p.line("## Keeping a tape within its bounds")
	p.line("")
	p.line("%d batches of %d connections as fast as they are written, into a tape of %d MiB, segments being closed, sealed and removed meanwhile.",
		s.Batches, storeBatch, s.Limit>>20)
	p.line("")
	p.head("what", "measured", "allowed")
	p.row("a batch, median (99 of 100)", fmt.Sprintf("%.1f (%.1f) ms", ms(s.Median), ms(s.Worst99)), "")
	p.row(fmt.Sprintf("a batch that begins or removes a segment, median of %d", s.Turned),
		fmt.Sprintf("%.1f ms, %.2f ×", ms(s.Turning), float64(s.Turning)/float64(s.Median)), "2 ×")
	p.row(fmt.Sprintf("a batch followed by a checkpoint of the WAL, median of %d", s.Moved),
		fmt.Sprintf("%.1f ms, %.2f ×", ms(s.Moving), float64(s.Moving)/float64(s.Median)), "2 ×")
	p.row("largest size of the tape", fmt.Sprintf("%.1f MiB", float64(s.Most)/(1<<20)), fmt.Sprintf("%d MiB", s.Limit>>20))
	p.row(fmt.Sprintf("bytes a connection, sealed (%d connections)", s.Rows), fmt.Sprintf("%.1f", s.Sealed), "48")
	p.row("sealing this segment, at low priority beside the recorder", fmt.Sprintf("%.1f s", s.Sealing.Seconds()), "")
	for _, name := range []string{"1 MiB", "1 GiB"} {
		r := s.Removals[name]
		p.row("a batch that removes a segment of "+name, fmt.Sprintf("%.1f ms, %.2f ×", ms(r.Batch), float64(r.Batch)/float64(s.Median)), "2 ×")
		p.row("removing this segment, beside the recorder", fmt.Sprintf("%.1f ms", ms(r.Gone)), "")
	}
	p.line("")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
