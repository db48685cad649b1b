package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// Garbage is not collected below the limit, and is collected now and then above it. Afterwards the old limits are back.
func TestCollectLate(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	runtime.GC()
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumGC
	}
	restore := collectLate(64 << 20)
	before := collections()
	var held [][]byte
	for range 16 {
		held = append(held, make([]byte, 1<<20))
	}
	if n := collections() - before; n != 0 {
		t.Errorf("%d collections at 16 MiB of 64", n)
	}
	for range 64 {
		held = append(held, make([]byte, 1<<20))
	}
	before = collections()
	for range 1 << 10 {
		sink = make([]byte, 1<<20)
	}
	// 80 MiB are held, so that each collection makes room for 36 and more.
	if n := collections() - before; n == 0 || n > 60 {
		t.Errorf("%d collections for 1 GiB of garbage", n)
	}
	restore()
	runtime.KeepAlive(held)
	held = nil
	runtime.GC()
	runtime.GC() // whatever waits for the collection has run
	if is := debug.SetMemoryLimit(-1); is != limit {
		t.Errorf("a limit of %d is left, want %d", is, limit)
	}
	if is := debug.SetGCPercent(100); is != 100 {
		t.Errorf("%d percent are left, want 100", is)
	}
}

var sink []byte
