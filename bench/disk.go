package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/store"
)

// A diskRun is what a tape takes.
type diskRun struct {
	Connections int
	Active, WAL int64 // the database, and the WAL beside it, while it is written
	Closed      int64 // after the stop: one file
	Took        time.Duration
}

// batchRows is how many connections the recorder writes at once when it is busy.
const batchRows = 100_000

// measureDisk writes generated connections through the recorder's writer.
func measureDisk(dir string, o generate.Options) (run diskRun, err error) {
	tape := filepath.Join(dir, "disk")
	defer func() { err = errors.Join(err, os.RemoveAll(tape)) }()
	now := store.Anchor{Boot: o.Begin, Real: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()}
	w, err := store.OpenWriter(tape, store.WriterOptions{Version: "bench", Backend: "fexit", BootID: "bench", Now: now})
	if err != nil {
		return run, err
	}
	s := generate.New(o)
	begin := time.Now()
	rows := make([]store.Connection, 0, batchRows)
	for {
		rows = s.Batch(rows[:0], batchRows)
		if len(rows) == 0 {
			break
		}
		run.Connections += len(rows)
		last := rows[len(rows)-1].BootTime
		if err := w.Append(store.Batch{Connections: rows, Now: last}); err != nil {
			return run, err
		}
	}
	run.Took = time.Since(begin)
	_, file := w.Segment()
	// The writer leaves the last seconds in the WAL: with a checkpoint due, another batch moves them.
	time.Sleep(2100 * time.Millisecond)
	if err := w.Append(store.Batch{Now: o.Begin + 2*uint64(o.Span)}); err != nil {
		return run, err
	}
	run.Active, run.WAL = size(file), size(file+"-wal")
	if err := w.Close(store.Gap{}, nil); err != nil {
		return run, err
	}
	run.Closed = size(file) + size(file+"-wal")
	return run, nil
}

func size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}
