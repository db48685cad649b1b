package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// mostTurns bounds the segments that turnover makes, so that a slow reader ends.
const mostTurns = 100

// turnover records, and closes a segment with each batch, without a pause, until stop is closed. It returns what went wrong.
func turnover(dir string, ready func(), stop <-chan struct{}) error {
	const boot = "00000000-0000-4000-8000-000000000001"
	keeper := store.NewLogKeeper(dir, store.LogOptions{Host: "web1", MachineID: "m", BootID: boot, Version: "1.2.3", Backend: "cgroup"})
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "1.2.3", Backend: "cgroup", BootID: boot, Kernel: "6.1.0", Host: "web1", MachineID: "m",
		Events: keeper.Listen})
	if err != nil {
		return err
	}
	who := task(process(process(nil, 1, "systemd", "/usr/lib/systemd/systemd", "/sbin/init"), 950, "curl", "/usr/bin/curl", "curl", "https://example.com"))
	to := &store.Endpoint{Family: 2, Address: "203.0.113.10", Port: 443, Raw: []byte("a")}
	for stored := uint64(0); ; {
		now, err := store.ReadAnchor("tick")
		if err != nil {
			return err
		}
		conns := make([]store.Connection, 20)
		for i := range conns {
			stored++
			conns[i] = store.Connection{BootTime: now.Boot + uint64(i), Cookie: stored, Task: who, Remote: to, Shape: tcp(0), FD: 3}
		}
		if err := w.Append(store.Batch{Connections: conns, Now: now.Boot + uint64(len(conns)), Counters: segment.Counters{"seen": stored, "stored": stored}}); err != nil {
			return err
		}
		if stored > mostTurns*uint64(len(conns)) {
			time.Sleep(5 * time.Millisecond)
		} else if err := w.Rotate(); err != nil {
			return err
		}
		if stored == uint64(len(conns)) {
			ready()
		}
		select {
		case <-stop:
			if err := w.Close(store.Gap{}, segment.Counters{"seen": stored, "stored": stored}); err != nil {
				return err
			}
			return keeper.Close()
		default:
		}
	}
}

// No command that reads a tape fails, finds damage or misses a connection because segments are closed and sealed without a
// pause.
func TestCommandsWhileRotating(t *testing.T) {
	dir, program := filepath.Join(t.TempDir(), "tape"), filepath.Join(t.TempDir(), "conntape")
	copyProgram(t, program)
	begun, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() { ended <- turnover(dir, func() { close(begun) }, stop) }()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatal(err)
	}
	ask := func(line string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a hold waits for all that is not sealed yet
		defer cancel()
		cmd := exec.CommandContext(ctx, program, append(words(line), "--dir", dir)...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		for _, word := range []string{"amaged", "malformed", "LEFT OUT", "meanwhile", "cannot"} {
			if strings.Contains(stderr.String()+stdout.String(), word) && line != "status" {
				err = os.ErrInvalid
			}
		}
		if err != nil {
			t.Errorf("%s: %v\n%s%s", line, err, stdout.String(), stderr.String())
		}
		return stdout.String()
	}
	const holes = "query sql select%20max(cookie)-min(cookie)+1-count(*)%20from%20connections --format csv"
	for _, line := range []string{"status", "verify --quiet", holes, "query recent --limit 5", "query gaps", "query who 203.0.113.10", "export --output " + filepath.Join(t.TempDir(), "all.csv"),
		"tail --limit 50", "hold --reason test --since 1s", "rotate", "verify --quiet", holes, "status"} {
		if answer := ask(line); line == holes && !strings.HasSuffix(answer, "\n0\n") {
			t.Errorf("%s: %s", line, answer)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	ask("verify --quiet")
}
