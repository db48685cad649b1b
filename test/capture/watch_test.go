package capture

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// hookGap waits until the tape says that hooks were gone, and what of them, and returns that gap. The recorder may look while a test takes away
// one after the other, and tells the rest in another gap.
func hookGap(t *testing.T, dir, what string) row {
	t.Helper()
	var gap row
	eventually(t, "a gap says that hooks were gone: "+what, func() bool {
		for _, g := range rows(t, dir, `SELECT * FROM gaps WHERE cause = 'hook gone'`) {
			if strings.Contains(g.text("detail"), what) {
				gap = g
			}
		}
		return gap != nil
	})
	most := int64(12e9) // ten seconds from look to look, and some to mend
	if env.inGuest {
		most *= 2 // emulated, beside two others
	}
	if gap["lost"] != nil || gap.int("from_ns") >= gap.int("to_ns") || gap.int("to_ns")-gap.int("from_ns") > most {
		t.Errorf("the gap is %v", gap)
	}
	return gap
}

// TestHooksDetached takes the cgroup programs of a recorder off their hooks, as an intruder with root would: it is
// noticed, said, and mended. Every backend has some: those that see connects, or only what is sent without one.
func TestHooksDetached(t *testing.T) {
	detach := newLinks(t)
	dir := tempDir(t)
	tape := record(t, dir)
	hook, via, workload := "cgroup_sendmsg4", "sendto", []string{"uring-send"}
	if backendOf(t, dir) == "cgroup" { // only the hooks see how io_uring connects
		hook, via, workload = "cgroup_connect4", "io_uring", []string{"uring-tcp", "plain"}
	}
	detach()
	hookGap(t, dir, hook+" was detached, and is attached again")
	done := mustRun(t, workload...)
	wantOwn(t, dir, tape.cmd.Process.Pid)
	tape.stop(t)
	for _, r := range done.reports {
		if n := number(t, dir, `SELECT count(*) FROM connections WHERE cookie = ? AND via = ?`, int64(r.Cookie), via); n != 1 {
			t.Errorf("what socket %d did has %d rows", r.Cookie, n)
		}
	}
}

// A recorder that is stopped before its next look at the hooks tells what was done to them since the last one.
func TestHooksDetachedAtTheEnd(t *testing.T) {
	detach := newLinks(t)
	dir := tempDir(t)
	tape := record(t, dir)
	hook := "cgroup_sendmsg4"
	if backendOf(t, dir) == "cgroup" {
		hook = "cgroup_connect4"
	}
	detach()
	tape.stop(t)
	hookGap(t, dir, hook+" was detached, and is attached again")
}

// newLinks returns a function that takes the cgroup programs off their hooks that conntape attaches from now on.
func newLinks(t *testing.T) (detach func()) {
	t.Helper()
	before := cgroupLinks(t, false)
	return func() {
		t.Helper()
		for id, l := range cgroupLinks(t, true) {
			if _, old := before[id]; old {
				continue
			}
			if err := l.Detach(); err != nil {
				t.Fatalf("detach link %d: %v", id, err)
			}
		}
	}
}

// wantOwn checks that the recorder, after a doubt, tried each path by connects of its own besides the one at its start,
// and that none of them is a row.
func wantOwn(t *testing.T, dir string, pid int) {
	t.Helper()
	want := uint64(1 + len([]string{"IPv4", "IPv6", "UNIX"}))
	if !strings.Contains(blindSpots(t, dir), "which conntape may not make to try") {
		want += 2
		if !strings.Contains(blindSpots(t, dir), "UNIX sockets through io_uring") {
			want++
		}
	}
	eventually(t, "each path is tried", func() bool { return counter(t, dir, "own") >= want })
	if n := number(t, dir, `SELECT count(*) FROM connections WHERE pid = ? AND (remote_port = 9 OR remote_address = '@conntape probe')`, pid); n != 0 {
		t.Errorf("%d connects of the recorder's own are rows", n)
	}
}

// blindSpots returns the tape's list of blind spots.
func blindSpots(t *testing.T, dir string) string {
	t.Helper()
	return rows(t, dir, `SELECT blind_spots FROM segments ORDER BY segment DESC LIMIT 1`)[0].text("blind_spots")
}

// backendOf tells which backend a recorder chose.
func backendOf(t *testing.T, dir string) string {
	t.Helper()
	var backend string
	eventually(t, "the segment says which backend it has", func() bool {
		if segments := rows(t, dir, `SELECT backend FROM segments ORDER BY segment DESC LIMIT 1`); len(segments) > 0 {
			backend = segments[0].text("backend")
		}
		return backend != ""
	})
	return backend
}

// cgroupLinks returns the links of programs of conntape on cgroups, by id. open keeps them open.
func cgroupLinks(t *testing.T, open bool) map[link.ID]link.Link {
	t.Helper()
	found := map[link.ID]link.Link{}
	var all link.Iterator
	defer all.Close()
	for all.Next() {
		info, err := all.Link.Info()
		if err != nil || info.Cgroup() == nil {
			continue
		}
		program, err := ebpf.NewProgramFromID(info.Program)
		if err != nil {
			continue
		}
		about, err := program.Info()
		program.Close()
		if err != nil || !strings.HasPrefix(about.Name, "cgroup_") && !strings.HasPrefix(about.Name, "dns_") {
			continue
		}
		found[all.ID] = nil
		if open {
			l := all.Take()
			t.Cleanup(func() { l.Close() })
			found[all.ID] = l
		}
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestHooksSilenced turns off the calls of trampolines and kprobes, which changes no link: recording starts anew with
// hooks that work (on arm64 some still do).
func TestHooksSilenced(t *testing.T) {
	if !env.inGuest {
		t.Skip("SKIPPED: it would silence the tracers of this machine")
	}
	const ftrace = "/proc/sys/kernel/ftrace_enabled"
	dir := tempDir(t)
	tape := record(t, dir)
	if backendOf(t, dir) == "cgroup" {
		tape.stop(t)
		t.Skip("SKIPPED: nothing silences the cgroup hooks")
	}
	err := os.WriteFile(ftrace, []byte("0"), 0)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, os.ErrNotExist) {
		tape.stop(t)
		t.Skipf("SKIPPED: this kernel lets nobody silence it now: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(ftrace, []byte("1"), 0)
	eventually(t, "recording begins anew", func() bool { return strings.Count(tape.said(), "recording to ") == 2 })
	hookGap(t, dir, "")
	connected := mustRun(t, "tcp4-refused")
	tape.stop(t)
	for _, r := range connected.reports {
		if n := number(t, dir, `SELECT count(*) FROM connections WHERE cookie = ?`, int64(r.Cookie)); n != 1 {
			t.Errorf("the connect of socket %d has %d rows", r.Cookie, n)
		}
	}
}
