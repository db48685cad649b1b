package testtape

import (
	"path/filepath"
	"testing"

	"github.com/conntape/conntape/store"
)

// Anchor reads the clocks.
func Anchor(t *testing.T, kind string) store.Anchor {
	t.Helper()
	now, err := store.ReadAnchor(kind)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// Record begins to record a tape, or goes on with it. Whoever asks for the writer closes it.
func Record(t *testing.T, dir string, now store.Anchor) *store.Writer {
	t.Helper()
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "v", Backend: "fexit", BootID: "boot", Kernel: "6", Host: "h", MachineID: "m", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Recorded writes a tape of its own, a segment for each batch that fill returns, and returns its directory.
func Recorded(t *testing.T, fill func(now store.Anchor) []store.Batch) (dir string) {
	t.Helper()
	dir, now := filepath.Join(t.TempDir(), "tape"), Anchor(t, "start")
	w := Record(t, dir, now)
	for i, b := range fill(now) {
		if i > 0 {
			if err := w.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(store.Gap{}, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Task is the first thread of a process that executed a program of this path, as nobody in particular.
func Task(tgid uint32, exe string) *store.Task {
	name := filepath.Base(exe)
	process := &store.Process{Key: store.ProcessKey{Tgid: tgid, StartBoot: 1}, Comm: name, Exe: exe, Argv: []string{name}, LoginUID: -1, SessionID: -1, Source: store.SourceExec}
	return &store.Task{Process: process, Tid: tgid, Comm: name, LoginUID: -1, SessionID: -1}
}

// TCP is the shape of a connect of TCP over IPv4 that succeeded at once.
func TCP() *store.Shape {
	return &store.Shape{SocketFamily: 2, Type: 1, Protocol: 6, Via: "connect", AddressSource: "kernel", Backend: "fexit", Addrlen: 16}
}

// Unmeasured is an outcome of which nothing was measured.
func Unmeasured() store.Outcome {
	return store.Outcome{Established: store.Unmeasured, Duration: store.Unmeasured, Sent: store.Unmeasured, Received: store.Unmeasured, Retransmits: store.Unmeasured, RTT: store.Unmeasured}
}
