package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// start runs a recorder over a script until the test stops it.
func start(t *testing.T, src *script, out sink, c config, o Options) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	passwd := filepath.Join(dir, "passwd")
	if err := os.WriteFile(passwd, []byte("root:x:0:0::/:\nalice:x:1000:1000::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newRecorder(src, out, c, hostFiles{proc: procOf(t), passwd: passwd})
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, o) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			t.Fatal("the recorder does not stop")
			return nil
		}
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// procOf returns the /proc of a test, empty until the test fills it.
func procOf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "conntape-proc-"+strings.ReplaceAll(t.Name(), "/", "_"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// accounted fails unless every attempt is in exactly one place, in the counters and in the rows.
func accounted(t *testing.T, m *memory) {
	t.Helper()
	c := m.counters
	if c["seen"] != c["stored"]+c["coalesced"]+c["folded"]+c["lost"] {
		t.Errorf("seen %d ≠ stored %d + coalesced %d + folded %d + lost %d", c["seen"], c["stored"], c["coalesced"], c["folded"], c["lost"])
	}
	if c["in_flight"] != 0 {
		t.Errorf("%d attempts are left in flight", c["in_flight"])
	}
	var events uint64
	for _, row := range m.rows {
		events += uint64(max(row.Count, 1))
	}
	if uint64(len(m.rows)) != c["stored"] || events != c["stored"]+c["coalesced"] {
		t.Errorf("%d rows of %d attempts, but stored %d and coalesced %d", len(m.rows), events, c["stored"], c["coalesced"])
	}
	var lost uint64
	for _, g := range m.gaps {
		lost += g.Lost
		if g.From >= g.To {
			t.Errorf("gap from %d to %d", g.From, g.To)
		}
	}
	if lost != c["lost"] {
		t.Errorf("gaps tell of %d lost attempts, counters of %d", lost, c["lost"])
	}
	if m.stop == nil || m.stop.Cause != store.CauseStopped || m.stop.To != 0 {
		t.Errorf("stop gap %+v", m.stop)
	}
}

func lineage(p *store.Process) string {
	var names []string
	for ; p != nil; p = p.Parent {
		names = append(names, fmt.Sprintf("%s#%d", filepath.Base(p.Exe), p.Key.Tgid))
	}
	return strings.Join(names, " < ")
}

func TestConnectIsFullyDescribed(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	initKey, shell, child := key(1, 5, 1), key(100, 1000, 3), key(200, now, 3)
	src.setAlive(aliveOf(initKey, bpf.ProcessKey{}, "/sbin/init"), aliveOf(shell, initKey, "/bin/bash"))
	fakeProc(t, procOf(t), 100, 1000, "bash\x00-l\x00")
	stop := start(t, src, out, quick(), Options{})

	curl := child
	curl.Exec++
	rec := execOf(curl, initKey, now+1, "/usr/bin/curl", "curl\x00http://a b\x00\x00")
	rec.Cgroup, rec.CgroupID = "/system.slice/docker-"+id64+".scope", 77
	rec.UID, rec.EUID, rec.LoginUID, rec.SessionID = 1000, 0, 1000, 4
	rec.NetNS, rec.ExeDev, rec.ExeIno = 11, 8<<20|1, 42
	src.process(forkOf(child, shell, now), rec)
	c := connectBy(curl, now+2)
	c.UID, c.CgroupID, c.NetNS, c.Tid, c.Errno, c.HookErrno = 1000, 77, 12, 201, int32(unix.EINPROGRESS), 0
	c.Local = ipv4(10, 9, 8, 7, 40000)
	src.connect(c)
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	row := out.rows[0]
	if row.BootTime != now+2 || row.FD != 3 || row.Cookie != now+2 || row.Update {
		t.Errorf("row %+v", row)
	}
	if row.Remote.Address != "10.0.0.1" || row.Remote.Port != 80 || row.Local == nil || row.Local.Port != 40000 {
		t.Errorf("remote %+v local %+v", row.Remote, row.Local)
	}
	wantShape := store.Shape{
		SocketFamily: unix.AF_INET, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP, Via: "connect", AddressSource: "kernel",
		Backend: "cgroup", HookErrno: 0, Errno: int32(unix.EINPROGRESS), Addrlen: 16,
	}
	if *row.Shape != wantShape {
		t.Errorf("shape %+v, want %+v", *row.Shape, wantShape)
	}
	task := row.Task
	if task.Tid != 201 || task.Comm != "comm" || task.User != "alice" || task.LoginUID != -1 || task.NetNS != 12 ||
		task.Container != "docker:"+id64 || task.Cgroup != rec.Cgroup {
		t.Errorf("task %+v", task)
	}
	p := task.Process
	if !slices.Equal(p.Argv, []string{"curl", "http://a b", ""}) || p.ArgvTruncated || p.Source != store.SourceExec ||
		p.User != "alice" || p.LoginUID != 1000 || p.SessionID != 4 || p.Unit != "docker-"+id64+".scope" || p.NetNS != 11 ||
		p.ExecBoot != now+1 || p.PPID != 100 || p.ExeIno != 42 {
		t.Errorf("process %+v", p)
	}
	if got, want := lineage(p), "curl#200 < bash#100 < init#1"; got != want {
		t.Errorf("lineage %s, want %s", got, want)
	}
	if bash := p.Parent; bash.Source != store.SourceSnapshot || !slices.Equal(bash.Argv, []string{"bash", "-l"}) || bash.ArgvTruncated {
		t.Errorf("parent %+v", bash)
	}
	accounted(t, out)
}

// Exec, connect and exit of a process can all be in the rings before anything is read, the exit too.
func TestShortLivedProcessesKeepTheirOwnDescription(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	shell := key(100, 1000, 3)
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"))
	stop := start(t, src, out, quick(), Options{})
	const n = 2000
	for i := range uint64(n) {
		at := now + i*10
		// Only 50 pids: each is used by many processes, which differ in their start time alone.
		child := key(uint32(200+i%50), at, 3)
		exe := child
		exe.Exec++
		c := connectBy(exe, at+2)
		c.Remote = ipv4(10, 0, byte(i>>8), byte(i), 80)
		src.process(forkOf(child, shell, at), execOf(exe, shell, at+1, "/bin/same", fmt.Sprintf("same\x00%d\x00", i)))
		src.connect(c)
		src.process(exitOf(exe, at+3))
	}
	waitFor(t, "all rows", func() bool { return out.count() == n })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	for _, row := range out.rows {
		want := fmt.Sprintf("10.0.%d.%d", (row.BootTime-now)/10>>8, (row.BootTime-now)/10&255)
		p := row.Task.Process
		if row.Remote.Address != want || p.Key.StartBoot != row.BootTime-2 || !slices.Equal(p.Argv, []string{"same", fmt.Sprint((row.BootTime - now) / 10)}) {
			t.Fatalf("connect to %s (want %s) by %+v", row.Remote.Address, want, p)
		}
		if p.Parent == nil || p.Parent.Key.Tgid != 100 || p.Source != store.SourceExec {
			t.Fatalf("process %+v", p)
		}
	}
}

// A process whose exec record was lost must not pass for the program that it was before, nor take another's argv.
func TestLostExecIsUnknownNotTheProgramBefore(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	shell, child := key(100, 1000, 3), key(200, now, 3)
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"))
	stop := start(t, src, out, quick(), Options{})
	waitFor(t, "the first walk", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return src.walks > 0 })
	src.setAlive() // all gone when they are looked for
	lost := child
	lost.Exec++
	src.process(forkOf(child, shell, now))
	src.loseProcess()
	c := connectBy(lost, now+2)
	c.UID = 1000
	src.connect(connectBy(child, now+1), c)
	src.process(exitOf(lost, now+3))
	waitFor(t, "both rows", func() bool { return out.count() == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before, after := out.rows[0].Task.Process, out.rows[1].Task.Process
	if before.Source != store.SourceFork || before.Exe != "/bin/bash" {
		t.Errorf("before exec: %+v", before)
	}
	if after.Source != store.SourceUnknown || after.Exe != "" || after.Argv != nil || after.User != "alice" || after.Comm != "comm" {
		t.Errorf("after a lost exec: %+v", after)
	}
	if got, want := lineage(after), ".#200 < bash#100"; got != want {
		t.Errorf("lineage %s, want %s", got, want)
	}
	accounted(t, out)
	if i := slices.IndexFunc(out.gaps, func(g store.Gap) bool { return g.Cause == causeProcessRing }); i < 0 || out.gaps[i].Lost != 0 {
		t.Errorf("gaps %+v", out.gaps)
	}
}

// What was lost and is still alive is found again, and marked as found late.
func TestLostExecOfALivingProcessIsFound(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	shell := key(100, 1000, 3)
	lost := key(200, now, 4)
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"))
	fakeProc(t, procOf(t), 200, now, "late\x00x\x00")
	stop := start(t, src, out, quick(), Options{})
	waitFor(t, "the first walk", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return src.walks > 0 })
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"), aliveOf(lost, shell, "/bin/late"))
	src.loseProcess()
	src.connect(connectBy(lost, now+2))
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if p := out.rows[0].Task.Process; p.Source != store.SourceProc || !slices.Equal(p.Argv, []string{"late", "x"}) || lineage(p) != "late#200 < bash#100" {
		t.Errorf("%s: %+v", lineage(p), p)
	}
}

// While processes are listed one of them executes another program, so that /proc shows the argv of that one.
func TestArgvReadTooLateIsDropped(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	server := key(100, 1000, 3)
	next := key(100, 1000, 4)
	src.setAlive(aliveOf(server, bpf.ProcessKey{}, "/bin/old"))
	fakeProc(t, procOf(t), 100, 1000, "new\x00")
	src.onWalk = func() {
		src.onWalk = nil
		src.process(forkOf(key(300, now, 3), server, now), execOf(next, bpf.ProcessKey{}, now+1, "/bin/new", "new\x00"))
	}
	stop := start(t, src, out, quick(), Options{})
	src.connect(connectBy(server, now), connectBy(key(300, now, 3), now+1), connectBy(next, now+2))
	waitFor(t, "rows", func() bool { return out.count() == 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		exe  string
		argv []string
		cut  bool
	}{{"/bin/old", nil, true}, {"/bin/old", nil, true}, {"/bin/new", []string{"new"}, false}} {
		if p := out.rows[i].Task.Process; p.Exe != want.exe || !slices.Equal(p.Argv, want.argv) || p.ArgvTruncated != want.cut {
			t.Errorf("row %d: %s %q truncated %v, want %+v", i, p.Exe, p.Argv, p.ArgvTruncated, want)
		}
	}
}

// The same, and the record of that exec is lost: a second walk tells whose argv can be trusted.
func TestArgvIsConfirmedWhenRecordsAreLostMeanwhile(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	server, next, quiet := key(100, 1000, 3), key(100, 1000, 4), key(101, 1000, 3)
	src.setAlive(aliveOf(server, bpf.ProcessKey{}, "/bin/old"), aliveOf(quiet, bpf.ProcessKey{}, "/bin/quiet"))
	fakeProc(t, procOf(t), 100, 1000, "new\x00")
	fakeProc(t, procOf(t), 101, 1000, "quiet\x00")
	src.onWalk = func() {
		src.onWalk = nil
		src.loseProcess()
		src.setAlive(aliveOf(next, bpf.ProcessKey{}, "/bin/new"), aliveOf(quiet, bpf.ProcessKey{}, "/bin/quiet"))
	}
	stop := start(t, src, out, quick(), Options{})
	src.connect(connectBy(server, now), connectBy(quiet, now+1))
	waitFor(t, "rows", func() bool { return out.count() == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if p := out.rows[0].Task.Process; p.Exe != "/bin/old" || p.Argv != nil || !p.ArgvTruncated {
		t.Errorf("%+v", p)
	}
	if p := out.rows[1].Task.Process; !slices.Equal(p.Argv, []string{"quiet"}) || p.ArgvTruncated {
		t.Errorf("%+v", p)
	}
}

func TestExecRecordWinsOverSnapshot(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	k := key(100, now, 4)
	src.setAlive(aliveOf(k, bpf.ProcessKey{}, "/bin/x"))
	fakeProc(t, procOf(t), 100, now, "title that it gave itself\x00")
	src.process(execOf(k, bpf.ProcessKey{}, now+1, "/bin/x", "x\x00secret\x00"))
	stop := start(t, src, out, quick(), Options{})
	src.connect(connectBy(k, now+2))
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if p := out.rows[0].Task.Process; p.Source != store.SourceExec || !slices.Equal(p.Argv, []string{"x", "secret"}) {
		t.Errorf("%+v", p)
	}
}

func TestFloodIsCoalescedExactlyWhileTheDiskStalls(t *testing.T) {
	src, out := newScript(), newMemory()
	out.gate = make(chan struct{})
	c := quick()
	c.buffer = MinBuffer
	stop := start(t, src, out, c, Options{})
	now := bootNow()
	procs := []bpf.ProcessKey{key(1, 1, 1), key(2, 1, 1), key(3, 1, 1)}
	for _, k := range procs {
		src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/flood", "flood\x00"))
	}
	const n = 60_000
	want := map[uint32]uint64{}
	for i := range uint64(n) {
		k := procs[i%3]
		e := connectBy(k, now+i)
		e.FD = int32(i % 7)
		e.Cookie = i
		src.connect(e)
		want[k.Tgid]++
	}
	// The disk stalls all the while, and everything is read.
	waitFor(t, "the ring to drain", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
	<-out.entered
	close(out.gate)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if out.counters["lost"] != 0 || out.counters["coalesced"] == 0 || out.counters["seen"] != n {
		t.Errorf("counters %v", out.counters)
	}
	got := map[uint32]uint64{}
	for _, row := range out.rows {
		got[row.Task.Process.Key.Tgid] += uint64(max(row.Count, 1))
		if row.Count > 1 {
			if row.LastBootTime < row.BootTime || row.LastBootTime >= now+n || row.BootTime < now {
				t.Errorf("row from %d to %d", row.BootTime-now, row.LastBootTime-now)
			}
			if row.FD != -1 || row.Cookie != 0 {
				t.Errorf("a row of %d different attempts has fd %d and cookie %d", row.Count, row.FD, row.Cookie)
			}
		}
	}
	for tgid, n := range want {
		if got[tgid] != n {
			t.Errorf("process %d: %d attempts on the tape, want %d", tgid, got[tgid], n)
		}
	}
}

func TestFloodOfDifferentAddressesIsLostAndCountedAtTheBound(t *testing.T) {
	src, out := newScript(), newMemory()
	out.gate = make(chan struct{})
	c := quick()
	c.buffer = MinBuffer
	stop := start(t, src, out, c, Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/scan", "scan\x00"))
	const n = 20_000
	for i := range uint64(n) {
		e := connectBy(k, now+i)
		e.Remote = ipv4(10, 1, byte(i>>8), byte(i), 22)
		src.connect(e)
	}
	waitFor(t, "the ring to drain", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
	time.Sleep(5 * c.tick)
	close(out.gate)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if out.counters["lost_memory"] == 0 || out.counters["lost"] != out.counters["lost_memory"] {
		t.Errorf("counters %v", out.counters)
	}
	if len(out.gaps) != 1 || out.gaps[0].Cause != causeMemory {
		t.Errorf("gaps %+v", out.gaps)
	}
}

func TestLossesInARowAreOneGap(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	until := time.Now().Add(200 * time.Millisecond)
	for time.Now().Before(until) { // lasts over many ticks and batches
		src.lose(3)
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	src.lose(1)
	time.Sleep(100 * time.Millisecond)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if len(out.gaps) != 2 || out.gaps[0].Cause != causeRing || out.gaps[1].Lost != 1 || out.gaps[1].From < out.gaps[0].To {
		t.Errorf("gaps %+v", out.gaps)
	}
}

func TestAttemptInFlightIsWrittenThenUpdated(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/slow", "slow\x00"))
	returns, hangs, unheard := connectBy(k, now), connectBy(k, now+1), connectBy(k, now+2)
	returns.Tid, hangs.Tid, unheard.Tid = 11, 12, 13
	for _, c := range []bpf.Connect{returns, hangs, unheard} {
		src.begin(c)
	}
	waitFor(t, "rows without result", func() bool { return out.count() == 3 })
	out.mu.Lock()
	for _, row := range out.rows {
		if row.Shape.Errno != store.Unknown {
			t.Errorf("errno %d before the return", row.Shape.Errno)
		}
	}
	out.mu.Unlock()
	returns.Errno = int32(unix.ECONNREFUSED)
	src.end(returns)
	src.endUnheard(unheard)
	waitFor(t, "the update", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		i := slices.IndexFunc(out.rows, func(r store.Connection) bool { return r.BootTime == now })
		return out.rows[i].Shape.Errno == int32(unix.ECONNREFUSED)
	})
	time.Sleep(100 * time.Millisecond)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if c := out.counters; c["stored"] != 3 || c["seen"] != 3 || c["lost"] != 0 || c["updated"] != 1 || c["in_flight_stored"] != 3 {
		t.Errorf("counters %v", c)
	}
}

func TestWhatIsInFlightAtTheEndIsWritten(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.flightAge = time.Hour
	stop := start(t, src, out, c, Options{})
	k := key(1, 1, 1)
	src.begin(connectBy(k, bootNow()))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if len(out.rows) != 1 || out.rows[0].Shape.Errno != store.Unknown {
		t.Errorf("rows %+v", out.rows)
	}
}

func TestSecondIssueOfIOUringUpdatesItsRow(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/ring", "ring\x00"))
	issue := func(boot, cookie uint64, errno int32, flags bpf.ConnectFlags, host byte) bpf.Connect {
		c := connectBy(k, boot)
		c.Via, c.Cookie, c.Errno, c.Flags, c.FD = bpf.ViaIOUring, cookie, errno, flags, -1
		c.Tid = uint32(boot - now) // a request may be issued again by another thread
		c.Remote = ipv4(10, 0, 0, host, 80)
		return c
	}
	pending := int32(unix.EINPROGRESS)
	src.connect(
		issue(now+1, 7, pending, 0, 1), issue(now+2, 8, pending, 0, 1), // told apart by cookie
		issue(now+3, 8, int32(unix.ECONNREFUSED), bpf.Reissue, 1), issue(now+4, 7, 0, bpf.Reissue, 1),
		issue(now+5, 0, pending, 0, 2), issue(now+6, 0, 0, bpf.Reissue, 2), // no cookie, but only one can be meant
		issue(now+7, 0, pending, 0, 3), issue(now+8, 0, pending, 0, 3), // either could be meant: neither is
		issue(now+9, 0, 0, bpf.Reissue, 3), issue(now+10, 0, int32(unix.ECONNREFUSED), bpf.Reissue, 3),
		issue(now+11, 9, 0, bpf.Reissue, 4), // the first issue was never seen
	)
	waitFor(t, "rows", func() bool { return out.count() == 6 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	want := map[uint64]int32{1: 0, 2: int32(unix.ECONNREFUSED), 5: 0, 7: pending, 8: pending, 11: 0}
	for _, row := range out.rows {
		if errno, ok := want[row.BootTime-now]; !ok || errno != row.Shape.Errno {
			t.Errorf("row %d has errno %d", row.BootTime-now, row.Shape.Errno)
		}
	}
	if out.counters["folded"] != 5 {
		t.Errorf("folded %d", out.counters["folded"])
	}
}

func TestStoreErrorIsRetriedThenCounted(t *testing.T) {
	t.Run("passes", func(t *testing.T) {
		src, out := newScript(), newMemory()
		out.failures = 2
		stop := start(t, src, out, quick(), Options{})
		src.connect(connectBy(key(1, 1, 1), bootNow()))
		waitFor(t, "a row", func() bool { return out.count() == 1 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		accounted(t, out)
		if out.counters["lost"] != 0 {
			t.Errorf("counters %v", out.counters)
		}
	})
	t.Run("stays", func(t *testing.T) {
		src, out := newScript(), newMemory()
		out.failures = 3
		stop := start(t, src, out, quick(), Options{})
		src.lose(5)
		src.connect(connectBy(key(1, 1, 1), bootNow()), connectBy(key(1, 1, 1), bootNow()))
		for range 3 {
			<-out.entered
		}
		waitFor(t, "the loss to be told", func() bool {
			out.mu.Lock()
			defer out.mu.Unlock()
			return slices.ContainsFunc(out.gaps, func(g store.Gap) bool { return g.Cause == causeStore })
		})
		src.connect(connectBy(key(1, 1, 1), bootNow()))
		waitFor(t, "a row", func() bool { return out.count() == 1 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		accounted(t, out) // the gap of the batch that was dropped came with the next
		if c := out.counters; c["lost_store"] != 2 || c["lost_ring"] != 5 || c["stored"] != 1 {
			t.Errorf("counters %v", c)
		}
	})
	t.Run("until the end", func(t *testing.T) {
		src, out := newScript(), newMemory()
		out.failures = 3
		stop := start(t, src, out, quick(), Options{})
		src.connect(connectBy(key(1, 1, 1), bootNow()))
		for range 2 {
			<-out.entered
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		accounted(t, out)
	})
}

func TestUsersRenamedWhileRecording(t *testing.T) {
	src, out := newScript(), newMemory()
	dir := t.TempDir()
	passwd := filepath.Join(dir, "passwd")
	if err := os.WriteFile(passwd, []byte("alice:x:1000:1::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := newRecorder(src, out, quick(), hostFiles{proc: procOf(t), passwd: passwd})
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, Options{}) }()
	c := connectBy(key(1, 1, 1), bootNow())
	c.UID = 1000
	src.connect(c)
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := os.WriteFile(passwd, []byte("mallory:x:1000:1::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	src.connect(c)
	waitFor(t, "another row", func() bool { return out.count() == 2 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if a, b := out.rows[0].Task.User, out.rows[1].Task.User; a != "alice" || b != "mallory" {
		t.Errorf("users %q, %q", a, b)
	}
}

func TestIdleWakesSeldomAndBeats(t *testing.T) {
	src, out := newScript(), newMemory()
	c := configOf(Options{})
	c.heartbeat = 500 * time.Millisecond
	stop := start(t, src, out, c, Options{})
	time.Sleep(2 * time.Second)
	src.mu.Lock()
	reads := src.reads
	src.mu.Unlock()
	if reads > 12 {
		t.Errorf("%d looks at an empty ring in 2 s", reads)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(out.batches); n < 3 || n > 6 {
		t.Errorf("%d heartbeats in 2 s", n)
	}
	for _, b := range out.batches[1:] {
		if len(b.Connections) != 0 || b.Now == 0 || b.Counters == nil {
			t.Errorf("heartbeat %+v", b)
		}
	}
}

func TestStatusOnALog(t *testing.T) {
	src, out := newScript(), newMemory()
	var text bytes.Buffer
	stop := start(t, src, out, quick(), Options{Dir: "/var/lib/tape", Status: &text})
	src.connect(connectBy(key(1, 1, 1), bootNow()))
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	want := `conntape: recording to /var/lib/tape with the cgroup backend; stop with Ctrl-C
conntape: not seen: nothing that a test could see
conntape: stopped: 1 connects seen, 1 rows, 0 counted together, 0 lost
`
	if text.String() != want {
		t.Errorf("said\n%swant\n%s", text.String(), want)
	}
}

func TestSourceThatFailsEndsTheRunWithAllThatWasRead(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	src.connect(connectBy(key(1, 1, 1), bootNow()))
	src.mu.Lock()
	src.failure = io.ErrUnexpectedEOF
	src.mu.Unlock()
	src.wake()
	waitFor(t, "the end", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return out.stop != nil })
	if err := stop(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	if len(out.rows) != 1 || !strings.Contains(out.stop.Detail, io.ErrUnexpectedEOF.Error()) {
		t.Errorf("rows %v, stop %+v", out.rows, out.stop)
	}
}
