package capture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// ringOf opens the ring of a recorder by its id, as any process of root may.
func ringOf(t *testing.T, pid int, name string) *ebpf.Map {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		about, _ := os.ReadFile(file)
		for line := range strings.Lines(string(about)) {
			text, ok := strings.CutPrefix(line, "map_id:")
			if !ok {
				continue
			}
			id, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			m, err := ebpf.NewMapFromID(ebpf.MapID(id))
			if err != nil {
				t.Fatal(err)
			}
			if info, err := m.Info(); err == nil && info.Name == name {
				t.Cleanup(func() { m.Close() })
				return m
			}
			m.Close()
		}
	}
	t.Fatalf("the recorder has no map %s", name)
	return nil
}

// stealFrom reads a ring until it has taken n records.
func stealFrom(t *testing.T, ring *ebpf.Map, n int) {
	t.Helper()
	thief, err := ringbuf.NewReader(ring)
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	until := time.Now().Add(patience)
	for taken := 0; taken < n; {
		thief.SetDeadline(time.Unix(1, 0))
		_, err := thief.Read()
		switch {
		case err == nil:
			taken++
		case !errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatal(err)
		case time.Now().After(until):
			t.Fatalf("only %d records in %v", taken, patience)
		}
	}
}

// TestStolenRing takes records out of the ring beside the recorder: each is counted as lost, in a gap that says who has the ring
// open; status, gaps and verify say so. Before that, a load makes no alarm.
func TestStolenRing(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir)
	made, each := 0, scaled(1_000_000, 1000)
	load := exec.Command(env.connects, "flood", strconv.Itoa(each), "2")
	for until := time.Now().Add(time.Duration(scaled(20, 2)) * time.Second); time.Now().Before(until); {
		load = exec.Command(load.Path, load.Args[1:]...)
		if out, err := load.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		made += each
	}
	// A recorder that is stopped in the middle of a record has read it, and the thief reads it once more.
	eventually(t, "the load is on the tape", func() bool {
		a := readAccount(t, dir)
		return a.stored+a.coalesced+a.lost >= int64(made)
	})
	if n := number(t, dir, `SELECT count(*) FROM gaps WHERE cause LIKE '%stolen'`); n != 0 {
		t.Fatalf("a load is taken for theft: %v", rows(t, dir, `SELECT * FROM gaps WHERE cause LIKE '%stolen'`))
	}
	ring := ringOf(t, tape.cmd.Process.Pid, "connects")
	// Who reads at the same time as the recorder shares some records with it: so that the number is exact, it is stopped.
	signal(t, tape, syscall.SIGSTOP)
	if out, err := exec.Command(env.connects, "flood", "5000", "2").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const stolen = 1000
	stealFrom(t, ring, stolen)
	signal(t, tape, syscall.SIGCONT)
	eventually(t, "the theft is known", func() bool { return counter(t, dir, "lost_stolen") == stolen })
	eventually(t, "the theft is a gap", func() bool {
		return number(t, dir, `SELECT sum(lost) FROM gaps WHERE cause = 'records stolen'`) == stolen
	})
	detail := rows(t, dir, `SELECT detail FROM gaps WHERE cause = 'records stolen' LIMIT 1`)[0].text("detail")
	if !strings.Contains(detail, fmt.Sprintf("open in pid %d (", os.Getpid())) {
		t.Errorf("the gap says %q", detail)
	}
	tape.stop(t)
	for _, command := range [][]string{{"status"}, {"verify"}, {"query", "gaps"}} {
		out, err := exec.Command(env.conntape, append(command, "--dir", dir)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v", command, err)
		}
		if !bytes.Contains(out, []byte("records stolen")) {
			t.Errorf("%v does not tell of the theft:\n%s", command, out)
		}
	}
}

// signal sends a signal. With SIGSTOP it waits until every thread has stopped: kill(2) does not.
func signal(t *testing.T, r *recorder, sig syscall.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if sig != syscall.SIGSTOP {
		return
	}
	eventually(t, "every thread has stopped", func() bool {
		all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", r.cmd.Process.Pid))
		return err == nil && len(all) > 0 && !slices.ContainsFunc(all, func(path string) bool {
			text, err := os.ReadFile(path)
			_, after, _ := strings.Cut(string(text), ") ") // proc_pid_stat(5): the state follows the name
			return err == nil && !strings.HasPrefix(after, "T")
		})
	})
}

// TestStolenDescriptions takes what the kernel says of processes: that is a gap too.
func TestStolenDescriptions(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir)
	ring := ringOf(t, tape.cmd.Process.Pid, "processes")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			_ = exec.Command(env.connects, "nothing").Run()
		}
	}()
	stealFrom(t, ring, 3)
	<-done
	eventually(t, "the theft is a gap", func() bool {
		return number(t, dir, `SELECT count(*) FROM gaps WHERE cause = 'descriptions stolen'`) > 0
	})
	tape.stop(t)
}
