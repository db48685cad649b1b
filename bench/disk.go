package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/store"
)

// A diskRun is the disk space of a tape.
type diskRun struct {
	Connections int
	Active, WAL int64 // database and WAL while recording
	Closed      int64 // after the end: one file
	Took        time.Duration
}

// batchRows is the batch size of a busy recorder.
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
	// The writer leaves the last seconds in the WAL. Once a checkpoint is due, the next batch moves them.
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
